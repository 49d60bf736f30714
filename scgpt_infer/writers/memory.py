"""Into memory: the embedding as one array, for callers that hold the cells in memory too."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.sink import Part, Record

__all__ = ["MemorySink"]


@dataclass(frozen=True, slots=True)
class MemorySink:
    """Keeps rows in `vectors`, (n_cells, dim) float32, and the facts of the run in `record`."""

    vectors: NDArray[np.float32]
    record: dict[str, str | int | float]

    def write(self, part: Part) -> None:
        """Take the next rows."""
        self.vectors[part.first_row : part.first_row + part.n_cells] = part.vectors

    def commit(self, record: Record) -> None:
        """Take the facts of the run."""
        self.record.update(record)
