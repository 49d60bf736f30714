"""An `Answer` -> the body of a response: the JSON document of `scgpt_infer.schema`, npy, or an Arrow stream.

The JSON is what the command line writes for the same cells. It knows no HTTP but the names of media.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from scgpt_infer.server.asking import Answer
from scgpt_infer.writers.arrow import facts, rows_of, schema_of
from scgpt_infer.writers.json import TextSink
from scgpt_infer.writers.sink import Target

__all__ = ["ARROW", "FORMS", "JSON", "NPY", "reply"]

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
ARROW: Final = "application/vnd.apache.arrow.stream"

FORMS: Final[Mapping[str, tuple[str, ...]]] = {"embed": (JSON, NPY, ARROW), "annotate": (JSON, ARROW)}
"""Forms that the answers of each task can have; the first is that of clients that take any."""


def reply(answer: Answer, form: str, names: tuple[str, ...], with_vectors: bool) -> bytes:
    """The body that tells an answer.

    Parameters
    ----------
    answer
        Of a model.
    form
        One of `FORMS`.
    names
        Of the cells; empty: they are numbered.
    with_vectors
        Whether cell types come with their vectors.
    """
    return _WRITERS[form](answer, _target(answer, names, with_vectors))


def _target(answer: Answer, names: tuple[str, ...], with_vectors: bool) -> Target:
    n_cells, dim = answer.part.vectors.shape
    return Target(
        path=Path(),
        n_cells=n_cells,
        dim=dim,
        key="",
        names=lambda start, stop: list(names[start:stop]) if names else [str(row) for row in range(start, stop)],
        columns=answer.columns,
        kind=answer.kind,
        with_vectors=with_vectors or answer.kind == "embeddings",
    )


def _json(answer: Answer, target: Target) -> bytes:
    sink = TextSink(target)
    sink.write(answer.part)
    sink.commit(answer.run)
    return sink.text.encode("ascii")


def _npy(answer: Answer, target: Target) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(answer.part.vectors, "<f4"), version=(1, 0))
    return file.getvalue()


def _arrow(answer: Answer, target: Target) -> bytes:
    import pyarrow as pa

    schema = schema_of(target).with_metadata(facts(answer.run))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(rows_of(target, answer.part, schema))
    return bytes(sink.getvalue())


_WRITERS: Final[Mapping[str, Callable[[Answer, Target], bytes]]] = {JSON: _json, NPY: _npy, ARROW: _arrow}
