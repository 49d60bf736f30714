"""The logistic regression: how strongly it is regularised, how it fares on held-out cells, and its weights.

In: unit vectors, labels, groups. Out: a `Fit`. It knows no model and no file. scikit-learn does the work, in float64
and on one core: the same input gives the same bits.
"""

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import judging
from scgpt_infer.learning.options import LearnOptions
from scgpt_runtime.errors import OptionError

__all__ = ["GRID", "Fit", "HeldOut", "fit"]

GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Values of C that are tried, from the strongest regularisation on, until held-out log loss rises."""

MOST_STEPS = 2000

Vectors = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Each cell as it is told by a classifier that was taught without the cell's fold.

    Attributes
    ----------
    codes
        (n_cells,) place of the class in the labels.
    confidence
        (n_cells,) its probability.
    log_loss
        Mean over the cells whose class was taught without their fold.
    folds
        Number of folds.
    """

    codes: Codes
    confidence: Vectors
    log_loss: float
    folds: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted classifier. Its logits are ``weights @ vector + bias`` for a unit vector.

    Attributes
    ----------
    labels
        Names of the classes, in their order.
    weights, bias
        (n_classes, dim) and (n_classes,) float32.
    regularisation
        C that it was fitted with.
    tried
        C to held-out log loss.
    held_out
        What it would have told of each cell without its fold.
    probabilities
        (n_cells, n_classes) what scikit-learn's model says of the cells that taught it.
    converged
        Whether the solver came to its end.
    """

    labels: tuple[str, ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    regularisation: float
    tried: dict[float, float]
    held_out: HeldOut
    probabilities: Vectors
    converged: bool


@dataclass(frozen=True, slots=True)
class _Scale:
    """Brings unit vectors to mean 0 and, over all entries, variance 1, so that C means the same whatever their width.

    One scale for all entries: to scale each by its own made the demo's held-out log loss no better.
    """

    mean: Vectors
    size: float

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        return cls(vectors.mean(axis=0), float(np.sqrt(vectors.var(axis=0).mean())) or 1.0)

    def __call__(self, vectors: Vectors) -> Vectors:
        scaled: Vectors = (vectors - self.mean) / self.size
        return scaled

    def folded(self, model: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights and bias for vectors that are not scaled; two classes get a row each, as more have."""
        coefficients, bias = model.coef_ / self.size, model.intercept_
        if len(coefficients) == 1:
            coefficients, bias = np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-bias, bias]) / 2
        weights = coefficients.astype(np.float32)
        # With the rounded weights, so that what rounding took from them counts for the distance to the mean alone.
        return weights, (bias - weights.astype(np.float64) @ self.mean).astype(np.float32)


def fit(
    vectors: NDArray[np.float32], labels: NDArray[np.str_], groups: NDArray[np.str_] | None, how: LearnOptions
) -> Fit:
    """Fit a classifier and judge it on held-out cells.

    Parameters
    ----------
    vectors
        (n_cells, dim) of unit length.
    labels
        (n_cells,) at least two different ones.
    groups
        (n_cells,) what no two folds share; None: folds are drawn, each label evenly.
    how
        C, and whether classes are balanced.

    Raises
    ------
    OptionError
        Without some fold only one class is left to teach.
    MissingDependencyError
        scikit-learn is not installed.
    """
    names, codes = np.unique(labels, return_inverse=True)
    exact = vectors.astype(np.float64)
    scale = _Scale.of(exact)
    parts = judging.folds(labels, groups)
    _check(parts, codes, names, how)
    judging.sklearn("linear_model", "annotate")
    with importlib.import_module("threadpoolctl").threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=judging.sklearn("exceptions").ConvergenceWarning)
        scaled = scale(exact)
        best, tried, held_out = _searched(scaled, codes, parts, how)
        model = _regression(how).set_params(C=best).fit(scaled, codes)
        probabilities = model.predict_proba(scaled)
    weights, bias = scale.folded(model)
    converged = int(model.n_iter_.max()) < MOST_STEPS
    return Fit(tuple(names.tolist()), weights, bias, best, tried, held_out, probabilities, converged)


def _searched(
    scaled: Vectors, codes: Codes, parts: Sequence[tuple[Codes, Codes]], how: LearnOptions
) -> tuple[float, dict[float, float], HeldOut]:
    """The C of least held-out log loss, what was tried, and the held-out answers with it."""
    models = [_regression(how, warm_start=True) for _ in parts]
    tried: dict[float, float] = {}
    best, found = GRID[0], None
    for c in GRID if how.c is None else (float(how.c),):
        one = _held_out(models, c, scaled, codes, parts)
        tried[c] = one.log_loss
        if found is not None and one.log_loss >= found.log_loss:
            break
        best, found = c, one
    assert found is not None
    return best, tried, found


def _held_out(
    models: Sequence[Any], c: float, scaled: Vectors, codes: Codes, parts: Sequence[tuple[Codes, Codes]]
) -> HeldOut:
    told, confidence = np.zeros(len(codes), np.int64), np.zeros(len(codes))
    losses: list[Vectors] = []
    for model, (seen, asked) in zip(models, parts, strict=True):
        model.set_params(C=c).fit(scaled[seen], codes[seen])
        probabilities = model.predict_proba(scaled[asked])
        told[asked] = model.classes_[probabilities.argmax(axis=1)]
        confidence[asked] = probabilities.max(axis=1)
        place = np.searchsorted(model.classes_, codes[asked])
        taught = np.isin(codes[asked], model.classes_)
        right = probabilities[np.flatnonzero(taught), place[taught]]
        losses.append(-np.log(np.maximum(right, np.finfo(np.float64).tiny)))
    loss = np.concatenate(losses)
    return HeldOut(told, confidence, float(loss.mean()) if len(loss) else 0.0, len(parts))


def _regression(how: LearnOptions, warm_start: bool = False) -> Any:
    return judging.sklearn("linear_model").LogisticRegression(
        solver="lbfgs",
        max_iter=MOST_STEPS,
        class_weight="balanced" if how.balanced else None,
        warm_start=warm_start,
    )


def _check(parts: Sequence[tuple[Codes, Codes]], codes: Codes, names: NDArray[np.str_], how: LearnOptions) -> None:
    for seen, _ in parts:
        left = np.unique(codes[seen])
        if len(left) < 2:
            raise OptionError(
                f"Without the cells of one fold, only those of class {str(names[left[0]])!r} are left to teach, so the "
                f"classes cannot be judged by {how.by or 'folds'}. Name another column with --by (by), or none."
            )
