"""``.json``: one document of `scgpt_infer.schema`; ``.jsonl``: a line a cell, with the run in ``x.jsonl.json``.

Cells are written as they come: neither form is held whole, unless a document is wanted in memory. A cell without a
result has its reason and nulls.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from itertools import repeat
from pathlib import Path

import numpy as np

from scgpt_infer import schema
from scgpt_infer.writers.sink import (
    Column,
    Part,
    Record,
    Sink,
    Target,
    beside,
    matrix_of,
    output_errors,
    sync,
    sync_together,
    table_of,
    write_all,
)

__all__ = ["BESIDE", "TextSink", "bytes_needed", "open_json", "open_jsonl"]

BESIDE = (".jsonl.json",)
"""Suffixes of the files that lie beside one of lines."""

_CELL_BYTES = 128
_NUMBER_BYTES = 17  # sign, point, nine digits, exponent, comma and space
_MEMBER_BYTES = 32


def bytes_needed(target: Target) -> int:
    """Room for all cells, every number and label at its longest."""
    words = sum(max((len(schema.quoted(word)) for word in column.words), default=0) for column in target.columns)
    columns = len(target.columns) * (_MEMBER_BYTES + _NUMBER_BYTES) + words
    vectors = target.dim * _NUMBER_BYTES if _has_vectors(target) else 0
    if target.kind == "imputed_values":
        names = sum(len(schema.quoted(name)) + 2 for name in target.features)
        vectors = target.dim * (1 + len(target.matrices)) * _NUMBER_BYTES + names
    for table in target.tables:
        names = sum(len(schema.quoted(name)) + 2 for name in table.features)
        vectors += table.width * _NUMBER_BYTES + names + 2 * _MEMBER_BYTES
    return target.n_cells * (_CELL_BYTES + columns + vectors) + 4096


@contextmanager
def open_json(target: Target) -> Iterator[Sink]:
    """Open a sink for a ``.json`` document."""
    with beside(target.path) as temporary, temporary.open("wb", buffering=0) as file:
        sink = DocumentSink(target, file, temporary)
        sink.append(schema.opening(target.kind))
        yield sink


@contextmanager
def open_jsonl(target: Target) -> Iterator[Sink]:
    """Open a sink for a ``.jsonl`` file and what lies beside it."""
    about = target.path.with_suffix(BESIDE[0])
    with (
        beside(target.path) as lines_path,
        beside(about) as about_path,
        lines_path.open("wb", buffering=0) as file,
    ):
        yield LinesSink(target, file, {about: about_path, target.path: lines_path})


@dataclass(frozen=True, slots=True)
class DocumentSink:
    """Appends cells to a list in a document."""

    target: Target
    file: FileIO
    temporary: Path

    def write(self, part: Part) -> None:
        """Take the next rows."""
        self.append(_entries(self.target, part))

    def append(self, text: str) -> None:
        """Write text as it is."""
        with output_errors(self.target.path):
            write_all(self.file, text.encode())

    def commit(self, record: Record) -> None:
        """End the document and give it its name."""
        self.append(schema.closing(schema.run_facts(record)))
        with output_errors(self.target.path):
            sync(self.temporary, self.target.path)


@dataclass(frozen=True, slots=True)
class TextSink:
    """Keeps the text that a ``.json`` file would have in memory.

    Attributes
    ----------
    target
        What it tells; its path is the name of no file.
    pieces
        The text so far.
    """

    target: Target
    pieces: list[str] = field(default_factory=list)

    def write(self, part: Part) -> None:
        """Take the next rows."""
        self.pieces.append(_entries(self.target, part))

    def commit(self, record: Record) -> None:
        """End the document."""
        self.pieces.append(schema.closing(schema.run_facts(record)))

    @property
    def text(self) -> str:
        """The document, once it has been ended."""
        return schema.opening(self.target.kind) + "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class LinesSink:
    """Appends a line a cell."""

    target: Target
    file: FileIO
    temporaries: dict[Path, Path]

    def write(self, part: Part) -> None:
        """Take the next rows."""
        lines = "".join(f"{cell}\n" for cell in _cells(self.target, part))
        with output_errors(self.target.path):
            write_all(self.file, lines.encode())

    def commit(self, record: Record) -> None:
        """Give both files their names, the lines last."""
        about = schema.about(self.target.kind, schema.run_facts(record))
        with output_errors(self.target.path):
            self.temporaries[self.target.path.with_suffix(BESIDE[0])].write_text(about, encoding="utf-8")
            sync_together(self.temporaries)


def _entries(target: Target, part: Part) -> str:
    """The cells of a part as they stand in the list of a document."""
    return (",\n" if part.first_row and part.n_cells else "") + ",\n".join(_cells(target, part))


def _cells(target: Target, part: Part) -> Iterator[str]:
    """The JSON of each cell of a part."""
    names = target.names(part.first_row, part.first_row + part.n_cells)
    told = _MEMBERS.get(target.kind, _nothing)(target, part)
    vectors = schema.lists(target.stored(part.vectors)) if _has_vectors(target) else None
    for place, (name, reason, members) in enumerate(zip(names, part.reasons, told, strict=True)):
        if vectors is not None:
            members = {**members, "embedding": "null" if reason else vectors[place]}
        row = part.first_row + place
        yield schema.cell(name, row if target.rows is None else int(target.rows[row]), reason, members)


def _nothing(target: Target, part: Part) -> Iterator[dict[str, str]]:
    """No members beside the vector."""
    return repeat({}, part.n_cells)


def _types(target: Target, part: Part) -> Iterator[dict[str, str]]:
    """Label, confidence and candidates of each cell: the columns ``label``, ``label_1``, ``label_2``, and so on."""
    texts = {column.name: _texts(column, part) for column in target.columns}
    ranks = [name.removeprefix("label_") for name in texts if name.startswith("label_")]
    for row in range(part.n_cells):
        candidates = [(texts[f"label_{rank}"][row], texts[f"confidence_{rank}"][row]) for rank in ranks]
        told = [
            f'{{"label": {label}, "confidence": {confidence}}}' for label, confidence in candidates if label != "null"
        ]
        yield {
            "label": texts["label"][row],
            "confidence": texts["confidence"][row],
            "candidates": f"[{', '.join(told)}]",
        }


def _imputed(target: Target, part: Part) -> Iterator[dict[str, str]]:
    """Genes, values and, where the model tells them, probabilities of each cell."""
    genes = ", ".join(map(schema.quoted, target.features))
    matrices = {"values": part.vectors, **{name: matrix_of(part, name) for name in target.matrices}}
    texts = {name: schema.lists(target.stored(numbers)) for name, numbers in matrices.items()}
    for row, reason in enumerate(part.reasons):
        lists = "".join(f', "{name}": {numbers[row]}' for name, numbers in texts.items())
        yield {"imputed": "null" if reason else f'{{"genes": [{genes}]{lists}}}'}


def _multimodal(target: Target, part: Part) -> Iterator[dict[str, str]]:
    """The vector of each cell, and what is told of its modalities; one that a cell does not have is left out."""
    vectors = schema.lists(target.stored(part.vectors))
    modalities: dict[str, dict[str, list[str]]] = {}
    for table in target.tables:
        members, numbers = modalities.setdefault(table.of, {}), target.stored(table_of(part, table))
        there = np.ravel(np.isfinite(numbers).any(axis=1)).tolist()
        texts = [text if found else "" for text, found in zip(schema.lists(numbers), there, strict=True)]
        if table.what == "predicted":
            features = f"[{', '.join(map(schema.quoted, table.features))}]"
            members |= {"predicted": ["true" if text else "" for text in texts]}
            members |= {"features": [features if text else "" for text in texts], "values": texts}
        else:
            members[table.what] = texts
    for row, reason in enumerate(part.reasons):
        told = {name: _object({key: texts[row] for key, texts in told.items()}) for name, told in modalities.items()}
        yield {
            "embedding": "null" if reason else vectors[row],
            "modalities": "null" if reason else _object({name: text for name, text in told.items() if text != "{}"}),
        }


def _object(members: dict[str, str]) -> str:
    """An object of JSON texts, the empty ones left out."""
    return "{" + ", ".join(f"{schema.quoted(name)}: {text}" for name, text in members.items() if text) + "}"


_MEMBERS = {"cell_types": _types, "imputed_values": _imputed, "multimodal": _multimodal}
"""What makes the members of a cell, by the kind of the result."""


def _texts(column: Column, part: Part) -> list[str]:
    """The JSON of a column's values."""
    values = part.columns[column.name]
    if not column.words:
        numbers: list[str] = schema.numbers(values)
        return numbers
    words = [*map(schema.quoted, column.words), "null"]  # -1 is the last of them
    return [words[code] for code in values.tolist()]


def _has_vectors(target: Target) -> bool:
    return target.kind == "embeddings" or (target.with_vectors and target.kind == "cell_types")
