"""Cells as an Arrow stream, and answers from one: what travels where pyarrow is installed.

In: rows of a matrix and a name for each of its columns. Out: bytes; from bytes, a `Part`. It knows no HTTP.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.client.errors import ProtocolError
from scgpt_infer.writers.arrow import FACTS
from scgpt_infer.writers.sink import Column, Part, Record
from scgpt_runtime.cells import CellBlock

__all__ = ["MEDIA", "answer_of", "body_of"]

MEDIA = "application/vnd.apache.arrow.stream"


def body_of(block: CellBlock, genes: NDArray[np.object_]) -> bytes:
    """Cells as a stream with the columns ``genes`` and ``values``.

    Parameters
    ----------
    block
        The cells.
    genes
        (n_columns,) name of each column of the matrix.
    """
    import pyarrow as pa

    used, places = _used(block.indices, len(genes))
    words = pa.DictionaryArray.from_arrays(pa.array(places), pa.array(genes[used], pa.string()))
    offsets = pa.array(block.indptr.astype(np.int32))
    lists = [
        pa.ListArray.from_arrays(offsets, words),
        pa.ListArray.from_arrays(offsets, pa.array(_narrow(block.data))),
    ]
    batch = pa.record_batch(lists, ["genes", "values"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def answer_of(body: bytes, first_row: int, columns: Sequence[Column]) -> tuple[Part, Record]:
    """The rows of an answer, and the facts of its run.

    Raises
    ------
    ProtocolError
        It is no such answer.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(body).read_all().combine_chunks()
        facts: dict[str, str | int | float] = json.loads((table.schema.metadata or {})[FACTS.encode()])
        reasons = tuple(reason or "" for reason in table.column("error").to_pylist())
        vectors = _vectors(_whole(table, "embedding"))
        told = {column.name: _values(_whole(table, column.name), column) for column in columns}
    except (pa.ArrowException, KeyError, ValueError, AttributeError) as error:
        raise ProtocolError(
            f"The answer is no Arrow stream of cells ({error}). Use a client and a server of the same version."
        ) from error
    return Part(first_row, vectors, reasons, told), facts


def _used(indices: NDArray[np.int32], n_genes: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The columns that have values, and the place of each value among them, in as few bytes as these take."""
    there = np.zeros(n_genes, bool)
    there[indices] = True
    used = np.flatnonzero(there)
    place = (np.cumsum(there) - 1).astype(np.min_scalar_type(len(used)))  # -1 of columns without values is never read
    return used, place[indices]


def _narrow(values: NDArray[np.float32]) -> NDArray[Any]:
    """The same values, in one or two bytes each where all are counts that fit: half of what would travel."""
    for kind in (np.uint8, np.uint16):
        with np.errstate(invalid="ignore"):  # NaN and negative ones, which differ from what they become
            whole = values.astype(kind)
        if np.array_equal(whole, values):
            return whole
    return values


def _whole(table: Any, name: str) -> Any:
    """A column in one piece."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _vectors(lists: Any) -> NDArray[np.float32]:
    """(n_cells, dim) rows of a column of lists of one length, NaN where there is none."""
    width = lists.type.list_size
    flat = lists.values.slice(lists.offset * width, len(lists) * width)
    numbers: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).astype(np.float32)  # a copy, of our own
    rows = numbers.reshape(len(lists), width)
    if lists.null_count:
        rows[lists.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return rows


def _values(found: Any, column: Column) -> NDArray[Any]:
    """Places of words, or numbers; -1 or NaN for none."""
    import pyarrow as pa

    if not column.words:
        return np.asarray(found.fill_null(float("nan")).to_numpy(zero_copy_only=False), np.float32)
    place = {word: number for number, word in enumerate(column.words)}
    if not pa.types.is_dictionary(found.type):
        found = found.dictionary_encode()
    codes = np.asarray(found.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    places = np.array([*(place[word] for word in found.dictionary.to_pylist()), -1], np.int32)
    return places[codes]  # -1 is the last one
