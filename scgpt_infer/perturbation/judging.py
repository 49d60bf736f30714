"""Predictions held against what was measured, beside three baselines that know no model: `judge`, `Judged`.

In: mean profiles by perturbation. Out: figures of each, and their means. It reads no cells.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.evaluation.profiles import Moments, ProfileFigures, average, compare, most_changed
from scgpt_infer.perturbation.truth import Truth

__all__ = ["ADDITIVE", "CONTROL", "MEAN", "MODEL", "Judged", "Judgement", "judge"]

MODEL, CONTROL, MEAN, ADDITIVE = "model", "control mean", "mean perturbed", "additive"

Ids = tuple[int, ...]
Profile = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Figures of one perturbation.

    Attributes
    ----------
    name
        The perturbation.
    cells
        Measured cells.
    trained
        Whether the model was trained on it; None where that is not known.
    genes
        Names of the genes that count as differentially expressed, the most changed first.
    figures
        By what predicted: the model, and each baseline that has an answer.
    """

    name: str
    cells: int
    trained: bool | None
    genes: tuple[str, ...]
    figures: dict[str, ProfileFigures]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Figures of all perturbations.

    Attributes
    ----------
    perturbations
        One entry each, by name.
    threshold, top
        Of a change, and of genes that count as differentially expressed.
    baseline
        What the mean perturbed profile is the mean of, in words.
    not_askable
        Perturbations of the truth with a gene that the model does not know, which are not judged.
    too_few
        Perturbations of too few cells, which are not judged.
    n_bad
        Measured cells that cannot be used.
    """

    perturbations: tuple[Judged, ...]
    threshold: float
    top: int
    baseline: str
    not_askable: tuple[str, ...]
    too_few: tuple[str, ...]
    n_bad: int

    def averages(self, trained: bool | None = None) -> dict[str, ProfileFigures]:
        """Means over perturbations by what predicted: over all, or those that the model was, or was not, trained on.

        The additive baseline is averaged over the combinations that it answers, so its mean is of fewer.
        """
        some = [one for one in self.perturbations if trained is None or one.trained is trained]
        by = (MODEL, CONTROL, MEAN, ADDITIVE)
        found = {name: [one.figures[name] for one in some if name in one.figures] for name in by}
        return {name: average(figures) for name, figures in found.items() if figures}

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False, indent=2)

    def to_dict(self) -> dict[str, Any]:
        """As JSON tells it."""
        told = asdict(self)
        told["averages"] = {name: asdict(figures) for name, figures in self.averages().items()}
        for word, trained in (("trained", True), ("not_trained", False)):
            means = self.averages(trained)
            if means:
                told[f"averages_{word}"] = {name: asdict(figures) for name, figures in means.items()}
        return told


def judge(
    predictions: Mapping[Ids, Profile],
    truth: Truth,
    control: Moments,
    genes: Sequence[str],
    *,
    trained: Sequence[Ids] = (),
    threshold: float,
    top: int,
    not_askable: Sequence[str] = (),
) -> Judgement:
    """Judge predictions.

    Parameters
    ----------
    predictions
        (n_genes,) predicted mean profile by perturbation; those that were not measured are left out.
    truth
        What was measured.
    control
        Moments of the control cells.
    genes
        (n_genes,) names.
    trained
        Perturbations that the model was trained on; none: not known.
    threshold, top
        See `scgpt_infer.evaluation.profiles`.
    not_askable
        Perturbations that could not be asked.
    """
    mean = _mean_perturbed(truth, trained)
    found = []
    for ids in sorted(set(predictions) & set(truth.groups), key=truth.names.__getitem__):
        group = truth.groups[ids]
        places = most_changed(group, control, top)
        told = {
            MODEL: predictions[ids],
            CONTROL: control.mean,
            MEAN: mean(ids),
            ADDITIVE: _additive(ids, truth, control),
        }
        figures = {
            name: compare(group.mean, profile, control.mean, places, threshold)
            for name, profile in told.items()
            if profile is not None
        }
        known = ids in trained if trained else None
        names = tuple(genes[place] for place in places.tolist())
        found.append(Judged(truth.names[ids], group.n_cells, known, names, figures))
    there = len(set(trained) & set(truth.groups))
    baseline = f"the {there} perturbations trained on" if trained else "all other perturbations"
    return Judgement(tuple(found), threshold, top, baseline, tuple(not_askable), truth.too_few, truth.n_bad)


def _mean_perturbed(truth: Truth, trained: Sequence[Ids]) -> Callable[[Ids], Profile | None]:
    """The mean profile of the trained perturbations, or of all, each counted once and the judged one left out."""

    def mean(ids: Ids) -> Profile | None:
        others = [group.mean for key, group in truth.groups.items() if key != ids and (not trained or key in trained)]
        return np.mean(others, axis=0) if others else None

    return mean


def _additive(ids: Ids, truth: Truth, control: Moments) -> Profile | None:
    """Control plus the measured effects of the single genes; None for a single gene, or where one was not measured."""
    singles = [truth.groups.get((token,)) for token in ids]
    if len(ids) < 2 or any(single is None for single in singles):
        return None
    effects = [single.mean - control.mean for single in singles if single is not None]
    profile: Profile = control.mean + np.sum(effects, axis=0)
    return profile
