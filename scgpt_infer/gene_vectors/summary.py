"""What a job about genes did: `GeneSummary`, for people and for ``--json``.

Plain values. It knows nothing of how they came about.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from scgpt_infer.summary import Summary

__all__ = ["GeneSummary"]

SHOWN = 20
"""Groups that are listed with their number of cells, and genes that are missing."""


@dataclass(frozen=True, slots=True)
class GeneSummary:
    """What was written.

    Attributes
    ----------
    model, vector_id, precision, dim
        Name of the model, the id that vectors must share to be comparable, the arithmetic, the width of a vector.
    output, key
        The file, and the name of the vectors in it where the format has one.
    n_rows, n_genes
        Rows of the file, and the different genes in them.
    unknown
        Genes that were asked for by names that the model does not know.
    missing
        Genes that were asked for, are known, and have no vector: too few cells express them.
    by, groups, n_without_group
        Column that groups come from, their cells, and the cells in none; empty without groups.
    min_cells
        Cells that a mean is at least of.
    cells
        The run through the cells; None for embeddings that no cell has a part in.
    """

    model: str
    vector_id: str
    precision: str
    dim: int
    output: str
    key: str
    n_rows: int
    n_genes: int
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    by: str = ""
    groups: dict[str, int] | None = None
    n_without_group: int = 0
    min_cells: int = 1
    cells: Summary | None = None

    @property
    def complete(self) -> bool:
        """Whether every gene that was asked for by name has a vector."""
        return not (self.unknown or self.missing)

    def report(self) -> str:
        """What was done, for people."""
        rows = "" if self.n_rows == self.n_genes else f" ({self.n_rows:,} rows)"
        lines = [
            f"vectors of {self.n_genes:,} genes written to {self.output}{rows}",
            f"  model      {self.model}, {self.precision}, {self.dim} wide, vector id {self.vector_id}",
        ]
        if self.cells is not None:
            lines += self._of_cells(self.cells)
        if self.unknown:
            lines.append(f"  not known  {_some(self.unknown)}")
        if self.missing:
            lines.append(f"  no vector  {_some(self.missing)}: expressed in too few cells")
        return "\n".join(lines)

    def to_json(self) -> str:
        """One JSON object."""
        told: dict[str, Any] = asdict(self)
        told["cells"] = None if self.cells is None else json.loads(self.cells.to_json())
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=2)

    def _of_cells(self, run: Summary) -> list[str]:
        lines = [
            f"  cells      {run.n_embedded:,} of {run.n_cells:,}, {run.cells_per_second:,.1f} cells/s; a gene needs "
            f"{self.min_cells:,} or more",
            f"  genes      {run.n_matched:,} of {run.n_genes:,} known ({run.match_fraction:.1%}), names from "
            f"{run.gene_col}",
            f"  ran on     {run.why}",
        ]
        if self.groups is not None:
            lines.append(f"  groups     {self.by}; {self.n_without_group:,} cells are in none")
            width = max(map(len, list(self.groups)[:SHOWN]))
            lines += [f"    {name:<{width}}  {count:>9,}" for name, count in list(self.groups.items())[:SHOWN]]
            if len(self.groups) > SHOWN:
                lines.append(f"    and {len(self.groups) - SHOWN:,} more; --json lists them")
        return lines


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN:,} more" if len(names) > SHOWN else shown
