"""What an imputation did: `Imputed`, for people and for ``--json``.

Plain values. It knows nothing of how they came about.
"""

import json
from dataclasses import dataclass
from typing import Any, Self

from scgpt_infer.imputation.asked import ImputeOptions
from scgpt_infer.summary import Summary

__all__ = ["Imputed"]

SHOWN = 20
"""Genes that are named one by one."""

_HIDDEN = {
    "together": "all genes that are asked for, together",
    "each": "one gene at a time",
    "none": "nothing",
}
_UNITS = {
    "values": "the scale of the cell's own values",
    "expected": "expected values on the cell's own scale, zeros weighed in",
    "bins": "bins of the model",
}


@dataclass(frozen=True, slots=True)
class Imputed:
    """What was written.

    Attributes
    ----------
    summary
        Of the run.
    genes
        Genes that were predicted, by their names in the vocabulary.
    unknown
        Names that were asked for and that the model does not know.
    predict_from, hide, units
        As `ImputeOptions` has them, with nothing left open.
    nonzero
        Whether probabilities of being expressed at all were told.
    """

    summary: Summary
    genes: tuple[str, ...]
    unknown: tuple[str, ...]
    predict_from: str
    hide: str
    units: str
    nonzero: bool

    @classmethod
    def of(
        cls, summary: Summary, genes: tuple[str, ...], unknown: tuple[str, ...], how: ImputeOptions, nonzero: bool
    ) -> Self:
        """Of settled options."""
        return cls(summary, genes, unknown, how.predict_from or "", how.hide or "", how.units, nonzero)

    def report(self) -> str:
        """What was done, for people."""
        run = self.summary
        zeros = ", and the probability that they are expressed" if self.nonzero else ""
        lines = [
            f"values of {len(self.genes):,} genes in {run.n_embedded:,} of {run.n_cells:,} cells, in {run.output}",
            f"  model      {run.model}, {run.precision}, {run.provider}; {run.cells_per_second:,.1f} cells/s",
            f"  predicted  from the {self.predict_from}{zeros}; hidden from the model: {_HIDDEN[self.hide]}",
            f"  units      {_UNITS[self.units]} ({run.counts}, {run.values})",
            f"  genes      {run.n_matched:,} of {run.n_genes:,} in the file known; asked for: {_some(self.genes)}",
        ]
        if run.n_kept:
            lines.insert(1, f"  kept       {run.n_kept:,} of them an earlier run had done")
        if self.unknown:
            lines.append(f"  not known  {_some(self.unknown)}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """One JSON object: the summary's, with what was asked for."""
        told: dict[str, Any] = json.loads(self.summary.to_json())
        names = ("predict_from", "hide", "units", "nonzero")
        told |= {"imputed_genes": self.genes, "unknown": self.unknown} | {name: getattr(self, name) for name in names}
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=2)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN:,} more" if len(names) > SHOWN else shown
