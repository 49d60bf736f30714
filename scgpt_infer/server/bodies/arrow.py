"""An Arrow body -> `Body`: a stream of ``genes`` (lists of texts), ``values`` (lists of numbers) and ``cell`` (texts).

What comes is hostile: pyarrow checks every border before an array is used, and buffers that inflate are refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scgpt_infer.server.asking import Cells
from scgpt_infer.server.bodies.arrow_messages import Growth, growth
from scgpt_infer.server.bodies.body import too_many_cells, too_many_values
from scgpt_infer.server.genes import GeneTable
from scgpt_infer.server.refusals import BadRequest, Unprocessable

__all__ = ["ArrowBody", "read"]

_EXPECTED = "Expected genes list<utf8>, values list<float32> and, where cells have names, cell utf8."
_INSTEAD = {
    Growth.COMPRESSED: "Write it without, and compress the whole body where that pays (Content-Encoding: gzip).",
    Growth.DELTA: "Write each dictionary whole (in pyarrow: emit_dictionary_deltas=False, as it is by default).",
}
_FEW = 4  # a dictionary with more words for each use is not looked up as a whole


@dataclass(frozen=True, slots=True)
class ArrowBody:
    """A body of Arrow.

    Attributes
    ----------
    batches
        Record batches that are sound.
    max_genes
        Most values of a cell.
    said
        No options: they are in the query.
    """

    batches: list[Any]
    max_genes: int
    said: Mapping[str, Any] = field(default_factory=dict)

    def cells(self, genes: GeneTable) -> Cells:
        """Its cells, as `scgpt_infer.server.bodies.body.Body` says."""
        lengths, tokens, values, names, row = [], [], [], [], 0
        for batch in self.batches:
            of_genes, of_values = (_lengths(batch.column(name), name, row) for name in ("genes", "values"))
            _check_lengths(of_genes, of_values, row, self.max_genes)
            lengths.append(of_genes)
            tokens.append(_tokens(batch.column("genes").flatten(), genes))
            values.append(_numbers(batch.column("values").flatten()))
            names += _names(batch, row)
            row += batch.num_rows
        indptr = np.zeros(row + 1, np.int64)
        np.cumsum(np.concatenate(lengths), out=indptr[1:])
        return Cells(indptr, genes.settled(indptr, np.concatenate(tokens)), np.concatenate(values), tuple(names))


def read(body: bytes, max_cells: int, max_genes: int) -> ArrowBody:
    """Check the form of a body.

    Parameters
    ----------
    body
        An Arrow IPC stream.
    max_cells, max_genes
        Limits of a request and of a cell.

    Raises
    ------
    BadRequest
        It is no such stream, a damaged one, or one that does not end where the body does.
    Unprocessable
        It is, and has other columns.
    TooLarge
        It has too many cells.
    """
    try:
        if grows := growth(body):
            raise Unprocessable(f"The Arrow stream has {grows.value}, which is not read here. {_INSTEAD[grows]}")
        batches = list(_sound(body, max_cells))
    except (pa.ArrowException, OSError, ValueError, IndexError, KeyError) as error:
        first_line = str(error).split("\n")[0]
        raise BadRequest(f"The body cannot be read as an Arrow IPC stream: {first_line}. {_EXPECTED}") from None
    if not batches:
        raise Unprocessable(f"The Arrow stream has no rows; send at least one. {_EXPECTED}")
    return ArrowBody(batches, max_genes)


def _sound(body: bytes, max_cells: int) -> Iterator[Any]:
    """The batches that have rows."""
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        _check_columns(reader.schema)
        n_cells, before = 0, None
        for batch in reader:
            n_cells += batch.num_rows
            if n_cells > max_cells:
                raise too_many_cells(max_cells)
            if batch.num_rows:
                _check(batch, before)
                before = batch
                yield batch


def _check(batch: Any, before: Any) -> None:
    """Make sure that all borders of a batch are sound; words that it shares with the one before are not read again.

    A message of some bytes would else cost as much as all words of a stream.
    """
    batch.validate()
    for column, last in zip(batch.columns, before.columns if before else batch.columns, strict=True):
        shared = before is not None and _places_of_words(column) == _places_of_words(last) != ()
        (_without_words(column) if shared else column).validate(full=True)


def _places_of_words(column: Any) -> tuple[Any, ...]:
    """Where the words of a dictionary lie in memory; empty for a column without a dictionary."""
    if not (_is_list(column.type) and pa.types.is_dictionary(column.type.value_type)):
        return ()
    words = column.values.dictionary
    return len(words), words.offset, *((buffer.address, buffer.size) for buffer in words.buffers() if buffer)


def _without_words(lists: Any) -> Any:
    """The same lists of as many words, each of which is nothing."""
    nothing = pa.nulls(len(lists.values.dictionary))
    return type(lists).from_arrays(lists.offsets, pa.DictionaryArray.from_arrays(lists.values.indices, nothing))


def _check_columns(schema: Any) -> None:
    names = schema.names
    if len({*names}) != len(names) or not {"genes", "values"} <= {*names} <= {"genes", "values", "cell"}:
        raise Unprocessable(f"The Arrow stream has columns {', '.join(names) or 'none'}. {_EXPECTED}")
    fits = {
        "genes": lambda kind: _is_list(kind) and _is_text(_of_words(kind.value_type)),
        "values": lambda kind: _is_list(kind) and _is_number(kind.value_type),
        "cell": _is_text,
    }
    for column in schema:
        if not fits[column.name](column.type):
            raise Unprocessable(f"The Arrow column {column.name} is {column.type}. {_EXPECTED}")


def _of_words(kind: Any) -> Any:
    """The type of the words of a dictionary; any other type is itself."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _lengths(lists: Any, name: str, row: int) -> NDArray[np.int64]:
    """(n_cells,) values of each list; none of them is missing."""
    if lists.null_count:
        at = int(np.flatnonzero(lists.is_null().to_numpy(zero_copy_only=False))[0])
        raise Unprocessable(f"{name} of row {row + at} is null; expected a list.")
    if lists.flatten().null_count:
        raise Unprocessable(f"{name} has a null in a list; leave out genes without a value.")
    offsets: NDArray[np.int64] = lists.offsets.to_numpy().astype(np.int64)
    return np.diff(offsets)


def _check_lengths(genes: NDArray[np.int64], values: NDArray[np.int64], row: int, max_genes: int) -> None:
    if (differ := np.flatnonzero(genes != values)).size:
        at = int(differ[0])
        raise Unprocessable(
            f"Row {row + at} has {genes[at]:,} genes and {values[at]:,} values; expected as many of both."
        )
    if (long := np.flatnonzero(genes > max_genes)).size:
        raise too_many_values(f"Row {row + int(long[0])}", max_genes)


def _tokens(names: Any, genes: GeneTable) -> NDArray[np.int32]:
    """The token of each of an array of texts."""
    if not pa.types.is_dictionary(names.type):
        return _tokens_of_texts(names, genes)
    if names.dictionary.null_count:
        raise Unprocessable("genes has a null among the words of its dictionary; expected names of genes.")
    used: NDArray[np.int64] = names.indices.to_numpy().astype(np.int64)
    if len(names.dictionary) <= _FEW * len(used):
        return _tokens_of_texts(names.dictionary, genes)[used]
    words, places = np.unique(used, return_inverse=True)
    return _tokens_of_texts(names.dictionary.take(pa.array(words)), genes)[places]


def _tokens_of_texts(texts: Any, genes: GeneTable) -> NDArray[np.int32]:
    if not len(texts):
        return np.empty(0, np.int32)
    _, borders, text = texts.buffers()
    kind = np.dtype(np.int64 if pa.types.is_large_string(texts.type) else np.int32)
    offsets = np.frombuffer(borders, kind, len(texts) + 1, texts.offset * kind.itemsize)
    return genes.tokens_at(text or b"", offsets)


def _numbers(values: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and the cell's own fault
        found: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32)
    return found


def _names(batch: Any, row: int) -> list[str]:
    if "cell" not in batch.schema.names:
        return []
    column = batch.column("cell")
    return [str(row + at) if name is None else name for at, name in enumerate(column.to_pylist())]
