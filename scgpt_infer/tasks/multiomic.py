"""The task of several modalities: the model's answers in, the vector of each cell and tables of its modalities out."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scgpt_infer.tasks.embed import embedding
from scgpt_infer.writers.sink import Column, Kind, Part, Record, Table
from scgpt_runtime.cells import Result

__all__ = ["Multimodal"]


@dataclass(frozen=True, slots=True)
class Multimodal:
    """Vectors, and numbers of modalities.

    Attributes
    ----------
    tables
        What is told beside the vectors: a result has an output of each table's name.
    told
        Facts that decide the answers.
    vectors
        Makes rows of vectors from the model's answers.
    """

    tables: tuple[Table, ...] = ()
    told: Record = field(default_factory=dict)
    vectors: Callable[[Result], Part] = embedding
    columns: tuple[Column, ...] = ()
    kind: Kind = "multimodal"

    @property
    def facts(self) -> Record:
        """What decides the answers beside the model."""
        return self.told

    def __call__(self, result: Result) -> Part:
        """The rows of a block. A cell without a vector has nothing else either."""
        part = self.vectors(result)
        bad = np.array([bool(reason) for reason in part.reasons], bool)
        tables = {}
        for table in self.tables:
            numbers = np.array(result.outputs[table.name], np.float32)
            if table.what == "embedding":
                with np.errstate(all="ignore"):  # rows of cells without this modality are NaN, and stay so
                    numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
            numbers[bad] = np.nan
            tables[table.name] = numbers
        return Part(part.first_row, part.vectors, part.reasons, tables=tables)
