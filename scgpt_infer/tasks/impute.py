"""The imputation task: predicted values of chosen genes in, rows of named numbers out."""

from dataclasses import dataclass

import numpy as np

from scgpt_infer.writers.sink import Column, Kind, Part, Record
from scgpt_runtime.cells import CellFault, Result

__all__ = ["NONZERO", "Imputation"]

NONZERO = "nonzero"
"""Name of the matrix of probabilities that a gene is expressed at all."""


@dataclass(frozen=True, slots=True)
class Imputation:
    """Values, and probabilities where the model tells them.

    Attributes
    ----------
    facts
        What decides the values.
    """

    facts: Record
    columns: tuple[Column, ...] = ()
    kind: Kind = "imputed_values"

    def __call__(self, result: Result) -> Part:
        """The rows of a block: outputs ``value`` and perhaps ``nonzero``, (n_cells, n_genes)."""
        reasons = tuple(CellFault(fault).reason for fault in result.faults.tolist())
        values = np.asarray(result.outputs["value"], np.float32)
        return Part(
            result.first_row,
            values,
            reasons,
            matrices={name: matrix for name, matrix in result.outputs.items() if name == NONZERO},
        )
