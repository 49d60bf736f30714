"""What a run that perturbed cells says of itself: `PerturbSummary`, for people and for ``--json``.

Plain values. It knows nothing of how they came about.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from scgpt_infer.evaluation.profiles import ProfileFigures
from scgpt_infer.perturbation.judging import Judgement
from scgpt_infer.sizes import size
from scgpt_infer.summary import LISTED, BadCell

__all__ = ["PerturbSummary"]

SHOWN = 20
_HEADS = ("pearson", "of change", "top", "of change, top", "MSE", "MSE top", "precision", "recall", "F1")


@dataclass(frozen=True, slots=True)
class PerturbSummary:
    """What was predicted.

    Attributes
    ----------
    model, vector_id, precision
        Name of the model, the id that answers must share to be comparable, the arithmetic.
    output, per_cell
        Files that were written; None where there is none.
    perturbations
        Their names.
    n_cells, bad
        Control cells that were asked about, and those that cannot be used.
    not_finite
        Answers that are no numbers, which are left out of the means.
    n_genes, n_known, n_told
        Genes of the file, those that the model takes, and those that were told of.
    values
        What the values were, and what was done to them, in words.
    unmeasured
        Perturbed genes that the cells' file has no column for: the model is told that they are silent.
    unknown
        Genes that were wanted (`PerturbOptions.only`) and are not there.
    batch_cells
        Cells of a batch.
    why
        What ran, in words.
    wall_seconds, profiles_per_second
        Of the whole run; a profile is one cell after one perturbation.
    memory, peak_bytes
        Bytes that were granted (None: no limit) and the most that the process has held.
    judgement
        Figures where there is a truth.
    """

    model: str
    vector_id: str
    precision: str
    output: str | None
    per_cell: str | None
    perturbations: tuple[str, ...]
    n_cells: int
    bad: tuple[BadCell, ...]
    not_finite: int
    n_genes: int
    n_known: int
    n_told: int
    values: str
    unmeasured: tuple[str, ...]
    unknown: tuple[str, ...]
    batch_cells: int
    why: str
    wall_seconds: float
    profiles_per_second: float
    memory: int | None
    peak_bytes: int
    judgement: Judgement | None = None

    @property
    def complete(self) -> bool:
        """Whether every gene that was wanted is told of, and every answer is a number."""
        return not self.unknown and not self.not_finite

    def to_json(self) -> str:
        """One JSON object."""
        told: dict[str, Any] = asdict(self)
        told["bad"] = [asdict(cell) for cell in self.bad[:LISTED]]
        told["n_bad"] = len(self.bad)
        told["judgement"] = None if self.judgement is None else self.judgement.to_dict()
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=2)

    def report(self) -> str:
        """What was done, for people."""
        return "\n".join(self._lines())

    def left_out(self) -> Iterator[str]:
        """Lines on answers and cells that have no part in the means."""
        if self.not_finite:
            yield f"  {self.not_finite:,} answers are no numbers and are left out of the means"
        for cell in self.bad[:SHOWN]:
            yield f"  cell {cell.name} (row {cell.row}) left out: {cell.reason}"
        if len(self.bad) > SHOWN:
            yield f"  and {len(self.bad) - SHOWN:,} more; --json lists them"

    def _lines(self) -> Iterator[str]:
        asked = f"{len(self.perturbations):,} perturbation{'s' if len(self.perturbations) != 1 else ''}"
        yield f"{asked} of {self.n_cells:,} control cells predicted: {_some(self.perturbations)}"
        if self.output is not None:
            yield f"  output     {self.output}{f', cells in {self.per_cell}' if self.per_cell else ''}"
        yield f"  model      {self.model}, {self.precision}, vector id {self.vector_id}"
        yield f"  genes      {self.n_known:,} of {self.n_genes:,} known to the model, {self.n_told:,} told of"
        yield f"  values     {self.values}"
        if self.unmeasured:
            yield f"  unmeasured {_some(self.unmeasured)}: no column in the file, so taken as silent"
        if self.unknown:
            yield f"  not there  {_some(self.unknown)}: wanted, and not among the known genes of the file"
        granted = "" if self.memory is None else f" of {size(self.memory)} granted"
        yield f"  ran on     {self.why}; {self.batch_cells:,} cells a batch"
        yield f"  took       {self.wall_seconds:.1f} s ({self.profiles_per_second:,.1f} profiles/s), peak memory " + (
            f"{size(self.peak_bytes)}{granted}"
        )
        yield from self.left_out()
        if self.judgement is not None:
            yield ""
            yield from _judged(self.judgement)


def _judged(found: Judgement) -> Iterator[str]:
    n = len(found.perturbations)
    yield (
        f"{n:,} perturbations judged; top: the {found.top} genes of largest Welch t; a gene changes where its mean "
        f"moves by more than {found.threshold:g}; mean perturbed is of {found.baseline}"
    )
    if found.not_askable:
        yield f"not judged, since the model does not know a gene of them: {_some(found.not_askable)}"
    if found.too_few:
        yield f"not judged, since they have too few cells: {_some(found.too_few)}"
    if found.n_bad:
        yield f"{found.n_bad:,} measured cells cannot be used and are left out"
    parts = [(f"mean of {n}", found.averages())]
    trained = {one.trained for one in found.perturbations}
    if trained == {True, False}:
        for word, kind in (("trained on", True), ("not trained on", False)):
            count = sum(one.trained is kind for one in found.perturbations)
            parts.append((f"mean of the {count} {word}", found.averages(kind)))
    for title, figures in parts:
        yield f"{title:<26} {'  '.join(f'{head:>{max(len(head), 7)}}' for head in _HEADS)}"
        for name, one in figures.items():
            yield f"  {name:<24} {_row(one)}"


def _row(found: ProfileFigures) -> str:
    values = (
        found.pearson, found.pearson_change, found.pearson_top, found.pearson_change_top, found.mse, found.mse_top,
        found.precision, found.recall, found.f1,
    )  # fmt: skip
    texts = ("-" if value is None else f"{value:.3f}" for value in values)
    return "  ".join(f"{text:>{max(len(head), 7)}}" for head, text in zip(_HEADS, texts, strict=True))


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN:,} more" if len(names) > SHOWN else shown
