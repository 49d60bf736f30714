"""What predictions are judged by: measured perturbations and all control cells, over the genes that both files have.

In: open control cells and `PerturbOptions` with a truth. Out: a `Trial`. It knows no predictions until it judges them.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.evaluation.profiles import TOP, Moments
from scgpt_infer.model import cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.perturbation.asked import Combination, PerturbOptions
from scgpt_infer.perturbation.cells import Panel, rows_of
from scgpt_infer.perturbation.judging import Judgement, judge
from scgpt_infer.perturbation.sums import ProfileSums
from scgpt_infer.perturbation.truth import Truth, known_perturbations, measured
from scgpt_infer.readers import CellSource
from scgpt_runtime.cells import CellFault
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.vocab import Vocabulary, choose

__all__ = ["Trial", "open_trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A truth, ready.

    Attributes
    ----------
    truth
        Measured perturbations, over the judged genes.
    asked
        The same as combinations.
    control
        Moments of all control cells, over the judged genes.
    places
        (n,) places of the judged genes in the panel of the control cells.
    genes
        Their names.
    trained
        Token ids of the perturbations that the model was trained on.
    not_askable
        Perturbations with a gene that the model does not know.
    """

    truth: Truth
    asked: tuple[Combination, ...]
    control: Moments
    places: NDArray[np.int64]
    genes: tuple[str, ...]
    trained: tuple[tuple[int, ...], ...]
    not_askable: tuple[str, ...]

    def judged(self, predictions: Mapping[tuple[int, ...], NDArray[np.float64]], threshold: float) -> Judgement:
        """Hold predictions, (n_genes of the panel,) each by token ids, against what was measured."""
        return judge(
            {ids: profile[self.places] for ids, profile in predictions.items()},
            self.truth,
            self.control,
            self.genes,
            trained=self.trained,
            threshold=threshold,
            top=min(TOP, len(self.genes)),
            not_askable=self.not_askable,
        )


def open_trial(
    source: CellSource,
    controls: NDArray[np.int64],
    panel: Panel,
    how: PerturbOptions,
    options: EmbedOptions,
    vocabulary: Vocabulary,
) -> Trial | None:
    """Walk through the measured cells; None where no truth was named.

    Parameters
    ----------
    source, controls, panel
        Open cells, rows of all control cells, and their genes.
    how, options
        What was asked for.
    vocabulary
        Of the model.

    Raises
    ------
    CellsError
        There is no such column, it tells no perturbation that the model can be asked, or the files share no gene.
    OptionError
        The model knows none of the perturbations that it was trained on.
    """
    if how.truth is None:
        return None
    with nullcontext(source) if how.truth_cells is None else cells_of(how.truth_cells, options) as other:
        labels = np.unique(other.cell_column(how.truth)).tolist()
        if how.control is not None and how.control[0] == how.truth:
            labels = [label for label in labels if label != how.control[1]]
        known, not_askable = known_perturbations(labels, vocabulary, options.genes)
        if not known:
            raise CellsError(
                f"The column {how.truth!r} tells no perturbation whose genes the model knows; it has "
                f"{', '.join(labels[:5]) or 'no value'}. Expected A, A+B or A+ctrl, by names of the model's genes."
            )
        theirs, places = (
            (panel, np.arange(len(panel.ids))) if other is source else _shared(other, panel, options, vocabulary)
        )
        truth = measured(other, how.truth, known, theirs, how.values)
    by_ids = {combination.ids: combination for combination in known.values()}
    trained, strangers = known_perturbations(how.trained, vocabulary, options.genes)
    if how.trained and not trained:
        raise OptionError(
            "The model knows no gene of the perturbations that it was trained on (--trained, trained): "
            f"{', '.join(strangers[:5]) or 'none is named'}. Expected A, A+B or A+ctrl, by names of the model's genes."
        )
    return Trial(
        truth,
        tuple(by_ids[ids] for ids in truth.groups),
        _moments(source, controls, panel, places, how),
        places,
        tuple(panel.names[place] for place in places.tolist()),
        tuple(combination.ids for combination in trained.values()),
        not_askable,
    )


def _shared(
    other: CellSource, panel: Panel, options: EmbedOptions, vocabulary: Vocabulary
) -> tuple[Panel, NDArray[np.int64]]:
    """The genes of a panel in the columns of another source, and their places in the panel: each gene once, by its
    first column on either side.
    """
    if options.gene_col is not None:
        other.gene_column(options.gene_col)
    columns = choose(other.gene_names, vocabulary, options.genes, options.gene_col, options.min_match).columns
    first = {token: column for column, token in reversed(list(enumerate(columns.tolist()))) if token >= 0}
    _, once = np.unique(panel.ids, return_index=True)
    places = np.array([place for place in once.tolist() if int(panel.ids[place]) in first], np.int64)
    if not len(places):
        raise CellsError("The control cells and the truth share no gene that the model knows. Check --gene-col.")
    ids = panel.ids[places]
    names = tuple(panel.names[place] for place in places.tolist())
    return Panel(np.array([first[token] for token in ids.tolist()], np.int64), ids, names), places


def _moments(
    source: CellSource, controls: NDArray[np.int64], panel: Panel, places: NDArray[np.int64], how: PerturbOptions
) -> Moments:
    sums = ProfileSums(1, len(places), squares=True)
    for part in rows_of(source, controls, panel, how.values):
        groups = np.where(part.faults == CellFault.NONE, 0, -1)
        sums.add(part.values[:, places].toarray(), groups)
    return sums.moments(0)
