"""Cells for the demo model's training: drawn, thinned, restricted to a panel of genes, and made into tokens.

In: data sets and a random generator. Out: padded arrays. Tokens come from the product's own tokenizer, so the model
is trained on what it will be asked. Every draw depends on the generator alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from demo_data import DataSet
from numpy.typing import NDArray
from training.cells import log_normalised
from training.tokens import SPECIAL, Padded, join, padded, settings, thin

from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.vocab import Vocabulary, is_special, match

GENES = 3000
FEWEST_GENES = 20
"""A view of a cell with fewer expressed genes than this is not trained on."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded cells, and (n_cells, n_labels) the labels that are right for each; none: unlabelled."""

    tokens: Padded
    allowed: NDArray[np.bool_]


def vocabulary(training: Sequence[DataSet], panels: Sequence[Sequence[str]], census: Sequence[str]) -> Vocabulary:
    """Names of the model's tokens: every gene of the small panels, then the genes that vary most.

    Parameters
    ----------
    training
        Their wide data sets decide which genes vary.
    panels
        Gene names of the small panels; all those that the census has are taken.
    census
        Names of scGPT's own vocabulary; no other name is taken.
    """
    known = {name for name in census if not is_special(name)}
    varies: dict[str, float] = defaultdict(float)
    for cells in training:
        if len(cells.genes) < 2 * GENES:
            continue
        logged = log_normalised(cells.counts, np.arange(len(cells.genes)))
        for gene, variance in zip(cells.genes, logged.var(axis=0).tolist(), strict=True):
            varies[gene] += variance
    taken = {gene for panel in panels for gene in panel if gene in known}
    ranked = sorted((gene for gene in varies if gene in known), key=lambda gene: (-varies[gene], gene))
    for gene in ranked:
        if len(taken) == GENES:
            break
        taken.add(gene)
    return Vocabulary((*sorted(taken), *SPECIAL))


class Sampler:
    """Draws batches from all training data.

    Parameters
    ----------
    training
        The data sets.
    tokens
        The model's vocabulary.
    seed
        Of every draw.
    """

    def __init__(self, training: Sequence[DataSet], tokens: Vocabulary, seed: int) -> None:
        self.sets = training
        self.tokens = tokens
        self.random = np.random.default_rng(seed)
        self.columns = [match(cells.genes, tokens).columns for cells in training]
        self.panels = [np.unique(columns[columns >= 0]) for columns in self.columns]
        where = [np.full(cells.n_cells, number) for number, cells in enumerate(training)]
        self.places = np.stack([np.concatenate(where), np.concatenate([np.arange(len(w)) for w in where])], axis=1)
        weights = np.concatenate([_weights(cells) for cells in training])
        self.cumulated = np.cumsum(weights / weights.sum())

    def draw(self, n_cells: int, max_length: int) -> Batch:
        """Draw a batch of views of cells.

        Parameters
        ----------
        n_cells
            How many; a few less come out where a view has too few genes left.
        max_length
            Longest view in tokens.
        """
        drawn = self.places[np.searchsorted(self.cumulated, self.random.random(n_cells) * self.cumulated[-1])]
        numbers = np.unique(drawn[:, 0]).tolist()
        parts = [self._views(number, drawn[drawn[:, 0] == number, 1], max_length) for number in numbers]
        tokens = join([part.tokens for part in parts], self.tokens.index["<pad>"], settings(self.tokens, 2).pad_code)
        return Batch(tokens, np.concatenate([part.allowed for part in parts]))

    def _views(self, number: int, rows: NDArray[np.int64], max_length: int) -> Batch:
        cells = self.sets[number]
        counts = cells.counts[rows]
        if self.random.random() < 0.5:
            counts = thin(counts, self.random)
        rules = settings(self.tokens, max_length, int(self.random.integers(2**62)))
        return view(counts, cells.allowed[rows], self._panel(number), rules, len(self.tokens))

    def _panel(self, number: int) -> NDArray[np.int64]:
        """Columns of a data set, in four cases of ten without the genes that a smaller panel would lack."""
        columns = self.columns[number]
        choice = self.random.random()
        if choice < 0.6:
            return columns
        if choice < 0.8:
            kept = self.panels[int(self.random.integers(len(self.panels)))]
            smaller = np.where(np.isin(columns, kept), columns, -1)
            return smaller if (smaller >= 0).sum() >= 300 else columns
        share = self.random.uniform(0.3, 0.9)
        return np.where(self.random.random(len(columns)) < share, columns, -1)


def _weights(cells: DataSet) -> NDArray[np.float64]:
    """Chance of each cell: a group of like label in like data set counts as the square root of its size."""
    _, group, sizes = np.unique(cells.types, return_inverse=True, return_counts=True)
    return np.asarray(1 / np.sqrt(sizes[group]))


def view(
    counts: sp.csr_matrix,
    allowed: NDArray[np.bool_],
    columns: NDArray[np.int64],
    rules: TokenizerSettings,
    n_tokens: int,
    fewest: int = FEWEST_GENES,
) -> Batch:
    """Tokens of cells with the labels that are right for them; cells with fewer genes than `fewest` are left out."""
    tokens = padded(counts, columns, rules, n_tokens, fewest)
    return Batch(tokens, allowed[tokens.rows])
