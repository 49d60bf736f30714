"""What was measured after each perturbation: means and variances of all genes, by the column that tells it.

In: an open source and the name of a column. Out: `Truth`. The cells are walked through once, and none is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scgpt_infer.evaluation.profiles import Moments
from scgpt_infer.perturbation.asked import Combination, Values, combination_of, names_of
from scgpt_infer.perturbation.cells import Panel, rows_of
from scgpt_infer.perturbation.sums import ProfileSums
from scgpt_infer.readers import CellSource
from scgpt_infer.wanted import tokens_of
from scgpt_runtime.cells import CellFault
from scgpt_runtime.errors import CellsError
from scgpt_runtime.vocab import GeneMode, Vocabulary

__all__ = ["Truth", "known_perturbations", "measured"]

FEWEST = 2
"""Cells that a perturbation needs to be judged by: a variance needs two."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Measured profiles.

    Attributes
    ----------
    groups
        Moments of each perturbation by its token ids.
    names
        Names of those perturbations.
    too_few
        Names of the perturbations with fewer than `FEWEST` cells that can be used.
    n_bad
        Perturbed cells that cannot be used.
    """

    groups: dict[tuple[int, ...], Moments]
    names: dict[tuple[int, ...], str]
    too_few: tuple[str, ...] = ()
    n_bad: int = 0


def known_perturbations(
    labels: Sequence[str], vocabulary: Vocabulary, mode: GeneMode = "exact"
) -> tuple[dict[str, Combination], tuple[str, ...]]:
    """Labels of a truth by the combination that they tell, and those with a gene that the model does not know.

    Labels without a gene, such as ``ctrl``, are left out: they tell no perturbation.
    """
    told = {label: names_of(label) for label in labels if label}
    names = sorted({name for combination in told.values() for name in combination})
    ids = tokens_of(names, vocabulary, mode)
    known = {
        label: combination_of(sorted({ids[name] for name in genes}), vocabulary)
        for label, genes in told.items()
        if genes and all(ids[name] >= 0 for name in genes)
    }
    return known, tuple(label for label, genes in told.items() if genes and label not in known)


def measured(source: CellSource, column: str, labels: dict[str, Combination], panel: Panel, values: Values) -> Truth:
    """Walk through the perturbed cells.

    Parameters
    ----------
    source
        Open cells.
    column
        Column of ``obs`` that tells each cell's perturbation.
    labels
        Which of its values tell which.
    panel
        Genes, in the columns of this source.
    values
        See `PerturbOptions`.

    Raises
    ------
    CellsError
        No perturbation has enough cells.
    """
    keys = list(dict.fromkeys(combination.ids for combination in labels.values()))
    place = {key: number for number, key in enumerate(keys)}
    words, codes = np.unique(source.cell_column(column), return_inverse=True)
    group_of = np.array([place[labels[word].ids] if word in labels else -1 for word in words.tolist()], np.int64)
    groups = group_of[codes]
    sums = ProfileSums(len(keys), len(panel.ids), squares=True)
    n_bad = 0
    for part in rows_of(source, np.flatnonzero(groups >= 0), panel, values):
        good = np.where(part.faults == CellFault.NONE, groups[part.rows], -1)
        n_bad += int(np.count_nonzero(good < 0))
        sums.add(part.values.toarray(), good)
    names = {combination.ids: combination.name for combination in labels.values()}
    found = {key: sums.moments(number) for key, number in place.items() if sums.counts[number] >= FEWEST}
    if not found:
        raise CellsError(
            f"No perturbation in the column {column!r} has {FEWEST} cells and genes that the model knows, so there is "
            f"nothing to judge by. Its values are such as {', '.join(words[:5].tolist())}; expected A or A+B."
        )
    too_few = tuple(sorted(name for key, name in names.items() if key not in found))
    return Truth(found, {key: names[key] for key in found}, too_few, n_bad)
