"""The nouns between a front end and a model: `Cells` and what is asked of them, `Ask`; what comes back, `Answer`.

Plain arrays with names. They know neither HTTP nor how they travel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.sink import Column, Kind, Part, Record

__all__ = ["Answer", "Ask", "Cells"]


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells as a request tells them, their genes looked up in a model's vocabulary.

    Each value is a column of its own: a gene that a cell has twice stays two, as two columns of a matrix do.

    Attributes
    ----------
    indptr
        (n_cells + 1,) int64, starts at 0; the values of cell i are ``indptr[i]:indptr[i + 1]``.
    tokens
        (n_values,) int32 token id of each value's gene, -1 where the model does not know it.
    values
        (n_values,) float32 expression.
    names
        (n_cells,) names of the cells; empty where the request gave none.
    """

    indptr: NDArray[np.int64]
    tokens: NDArray[np.int32]
    values: NDArray[np.float32]
    names: tuple[str, ...] = ()

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1


@dataclass(frozen=True, slots=True)
class Ask:
    """Cells, and what is wanted of them.

    Attributes
    ----------
    task
        ``embed`` or ``annotate``.
    cells
        At least one.
    client
        Whose turn they count for; turns are shared out evenly among clients.
    within
        Seconds from now after which nobody wants the answer. None: it may take its time.
    options
        Of the task: for ``annotate`` ``top`` and ``unknown_below``.
    request_id
        For logs and traces.
    """

    task: str
    cells: Cells
    client: str = ""
    within: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says of the cells that were asked about.

    Attributes
    ----------
    part
        A row a cell: vectors of unit length, NaN with a reason for a cell without one, and columns.
    columns
        What the columns of the part are.
    kind
        As documents name it.
    run
        What decided the answers: model, vector_id, provider, precision and so on (`scgpt_infer.schema.run_facts`).
    tokens
        Tokens that the cells became.
    seconds
        By stage: queue, tokenise, infer.
    """

    part: Part
    columns: tuple[Column, ...]
    kind: Kind
    run: Record
    tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
