"""Cells for the demo model's training: drawn, thinned, restricted to a panel of genes, and made into tokens.

In: data sets and a random generator. Out: padded arrays. Tokens come from the product's own tokenizer, so the model
is trained on what it will be asked. Every draw depends on the generator alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from demo_data import DataSet, log_normalised
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import Vocabulary, is_special, match

GENES = 3000
SPECIAL = ("<pad>", "<cls>", "<eoc>")
FEWEST_GENES = 20
"""A view of a cell with fewer expressed genes than this is not trained on."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded cells.

    Attributes
    ----------
    ids, codes
        (n_cells, length) token ids and value codes.
    lengths
        (n_cells,) true lengths.
    allowed
        (n_cells, n_labels) the labels that are right; none: unlabelled.
    """

    ids: NDArray[np.int64]
    codes: NDArray[np.int64]
    lengths: NDArray[np.int64]
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


def settings(tokens: Vocabulary, max_length: int, seed: int = 0) -> TokenizerSettings:
    """The product's tokenizer settings for this vocabulary."""
    return TokenizerSettings(
        cls_id=tokens.index["<cls>"], pad_id=tokens.index["<pad>"], max_length=max_length, seed=seed
    )


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
        return join(parts, self.tokens.index["<pad>"], settings(self.tokens, max_length).pad_code)

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


def thin(counts: sp.csr_matrix, random: np.random.Generator) -> sp.csr_matrix:
    """The cells as shallower sequencing would have seen them."""
    share = np.repeat(random.uniform(0.3, 1.0, counts.shape[0]), np.diff(counts.indptr))
    thinned = counts.copy()
    thinned.data = random.binomial(counts.data.astype(np.int64), share).astype(np.float32)
    return thinned


def view(
    counts: sp.csr_matrix,
    allowed: NDArray[np.bool_],
    columns: NDArray[np.int64],
    rules: TokenizerSettings,
    n_tokens: int,
    fewest: int = FEWEST_GENES,
) -> Batch:
    """Tokens of cells, padded; cells with fewer genes than `fewest` are left out."""
    block = CellBlock(counts.indptr.astype(np.int64), counts.indices.astype(np.int32), counts.data, 0)
    tokens = tokenize(block, columns, rules, n_tokens)
    lengths = np.diff(tokens.offsets)
    good = np.flatnonzero(lengths > fewest)
    longest = int(lengths[good].max(initial=1))
    ids = np.full((len(good), longest), rules.pad_id, np.int64)
    codes = np.full((len(good), longest), rules.pad_code, np.int64)
    for row, cell in enumerate(good.tolist()):
        part = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        ids[row, : lengths[cell]] = tokens.ids[part]
        codes[row, : lengths[cell]] = tokens.values[part]
    return Batch(ids, codes, lengths[good], allowed[good])


def join(parts: Sequence[Batch], pad_id: int, pad_code: int) -> Batch:
    """Several batches as one."""
    longest = max(part.ids.shape[1] for part in parts)

    def wide(array: NDArray[np.int64], fill: int) -> NDArray[np.int64]:
        return np.pad(array, ((0, 0), (0, longest - array.shape[1])), constant_values=fill)

    return replace(
        parts[0],
        ids=np.concatenate([wide(part.ids, pad_id) for part in parts]),
        codes=np.concatenate([wide(part.codes, pad_code) for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        allowed=np.concatenate([part.allowed for part in parts]),
    )
