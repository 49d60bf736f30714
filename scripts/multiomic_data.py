"""Cells of several modalities that a small model is trained on and judged by, and the questions that it is asked.

In: the files that `PLANS` name. Out: `Measured`, which are held out, and masked batches. It knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from training.cells import Cells, variable_genes
from training.tokens import SPECIAL, Masked, Padded, padded, settings

from scgpt_infer.readers.several import open_several
from scgpt_infer.spans import grid
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.vocab import Vocabulary

RATIOS = (0.2, 0.4)
FEW = 256
"""A modality with no more features is asked for whole."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one model is trained on.

    Attributes
    ----------
    file
        Its name.
    modalities
        Names in the model to names in the file.
    prefixes
        What the names of a modality's tokens begin with.
    batch, labels
        Columns of ``obs``: batches, which the decoders are told, and cell types, which only judge; empty for none.
    genes
        Variable features of the first modality that become tokens; 0: all.
    length
        Longest view in training; the model takes all when it is asked.
    zeros
        Whether heads tell zero from non-zero, so that absent features are asked for too.
    cells
        Cells of a batch.
    """

    file: str
    modalities: dict[str, str]
    prefixes: dict[str, str]
    batch: str = ""
    labels: str = ""
    genes: int = 0
    length: int = 260
    zeros: bool = False
    cells: int = 24


PROTEINS = {"RNA": "X", "Protein": "protein_counts"}
PLANS = {
    "citeseq-bm": Plan("citeseq_bm_pbmc_250_197adt.h5ad", PROTEINS, {"Protein": "p_"}, labels="cell_type", length=360),
    "citeseq-pbmc": Plan(
        "citeseq_pbmc_2batch_400.h5ad", PROTEINS, {"Protein": "p_"}, batch="batch", labels="cell_type", genes=600
    ),
    "multiome": Plan("multiome_muon_test_1000.h5mu", {"RNA": "rna", "ATAC": "atac"}, {}, zeros=True),
    "atac": Plan(
        "atac_hematopoiesis_14125.h5ad", {"ATAC": "X"}, {}, labels="cell_type", length=120, zeros=True, cells=40
    ),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Cells with all modalities side by side.

    Attributes
    ----------
    counts
        (n_cells, n_columns) CSR.
    names
        Token of each column.
    modality
        (n_columns,) modality of each column, by name.
    batch, labels
        (n_cells,) text each; empty text where there is none.
    """

    counts: sp.csr_matrix
    names: NDArray[np.str_]
    modality: NDArray[np.str_]
    batch: NDArray[np.str_]
    labels: NDArray[np.str_]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.counts.shape[0]

    def take(self, rows: NDArray[np.int64]) -> "Measured":
        """Some of the cells."""
        return replace(self, counts=self.counts[rows], batch=self.batch[rows], labels=self.labels[rows])

    def of(self, modality: str) -> NDArray[np.int64]:
        """Columns of a modality."""
        return np.flatnonzero(self.modality == modality)


def load(folder: Path, plan: Plan) -> Measured:
    """Read all cells of a plan by the product's own reader."""
    with open_several(folder / plan.file, lambda names, where: tuple(plan.modalities.values())) as source:
        blocks = list(source.blocks(grid(source.n_cells)))
        counts = sp.vstack(
            [sp.csr_matrix((b.data, b.indices, b.indptr), (b.n_cells, source.n_genes)) for b in blocks], format="csr"
        )
        names, modality = np.array(source.gene_names["index"], object), np.empty(source.n_genes, object)
        for own, theirs in plan.modalities.items():
            (found,) = [one for one in source.modalities if one.name == theirs]
            modality[found.columns] = own
            names[found.columns] = [f"{plan.prefixes.get(own, '')}{name}" for name in names[found.columns]]
        none = np.full(source.n_cells, "")
        batch, labels = (source.cell_column(name) if name else none for name in (plan.batch, plan.labels))
    counts.sort_indices()
    return Measured(counts, names.astype(str), modality.astype(str), batch, labels)


def split(cells: Measured, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cells to learn from, to choose the step by, and to judge by: a third of each batch and type judges."""
    random, part = np.random.default_rng(seed), np.zeros(cells.n_cells, np.int64)
    strata = np.char.add(np.char.add(cells.batch, "|"), cells.labels)
    for stratum in np.unique(strata):
        rows = random.permutation(np.flatnonzero(strata == stratum))
        part[rows[: len(rows) // 3]] = 2
        part[rows[len(rows) // 3 : len(rows) // 3 + min(len(rows) // 10, 40)]] = 1
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1), np.flatnonzero(part == 2)


def vocabulary(training: Measured, plan: Plan) -> Vocabulary:
    """All features, of the first modality the variable ones where the plan says how many."""
    names = training.names.tolist()
    if plan.genes:
        first = training.of(next(iter(plan.modalities)))
        cells = Cells(
            "",
            training.counts[:, first],
            tuple(training.names[first].tolist()),
            np.empty(0, str),
            {"b": training.batch},
        )
        left_out = set(cells.genes) - set(variable_genes(cells, plan.genes, group="b"))
        names = [name for name in names if name not in left_out]
    return Vocabulary((*names, *SPECIAL))


def modality_names(plan: Plan) -> tuple[str, ...]:
    """By number, as scGPT's tutorial numbers them: sorted, the special ones behind."""
    return (*sorted(plan.modalities), *SPECIAL)


class Asker:
    """Draws cells and questions about them; every draw depends on the seed alone.

    A question hides values of a cell: a share of all, or a whole modality. What is asked stands among the cell's tokens
    with the value of a mask, or is unseen and asked of the cell embedding alone.
    """

    def __init__(self, cells: Measured, tokens: Vocabulary, plan: Plan, batches: Sequence[str], seed: int) -> None:
        self.cells, self.tokens, self.plan = cells, tokens, plan
        self.columns = np.array([tokens.index.get(name, -1) for name in cells.names.tolist()], np.int64)
        names = modality_names(plan)
        self.modality = np.array([names.index("<pad>")] * len(tokens), np.int64)
        known = self.columns >= 0
        self.modality[self.columns[known]] = [names.index(name) for name in cells.modality[known].tolist()]
        for special in SPECIAL:
            self.modality[tokens.index[special]] = names.index(special)
        self.features = [np.flatnonzero(self.modality == number) for number in range(len(plan.modalities))]
        self.labels = np.array([batches.index(batch) for batch in cells.batch.tolist()] if batches else [])
        self.random = np.random.default_rng(seed)

    def rules(self, length: int | None = None, seed: int = 0) -> TokenizerSettings:
        """The tokenizer's settings: fine-tuned, so that ``<cls>`` carries 0."""
        return settings(self.tokens, length or len(self.tokens), seed, cls_value=0.0)

    def view(self, rows: NDArray[np.int64], length: int | None = None, seed: int = 0) -> Padded:
        """Cells as tokens."""
        rules = self.rules(length, seed)
        return padded(self.cells.counts[rows], self.columns, rules, len(self.tokens), modality=self.modality)

    def draw(self, n_cells: int) -> Masked:
        """The next batch."""
        rows = self.random.choice(self.cells.n_cells, n_cells)
        return self.asked(rows, self.plan.length)

    def asked(self, rows: NDArray[np.int64], length: int | None) -> Masked:
        """A question about these cells."""
        seen = self.view(rows, length, int(self.random.integers(2**62)))
        blind = int(self.random.integers(len(self.features))) if self.random.random() < self.share_blind else None
        dropped = bool(self.random.random() < 0.5)
        found = [self._question(seen, row, blind) for row in range(len(seen.ids))]
        return self._batch(found, rows[seen.rows], dropped)

    @property
    def share_blind(self) -> float:
        """Share of questions about a whole modality."""
        return 0.5 if len(self.features) > 1 else 0.0

    def _question(self, seen: Padded, row: int, blind: int | None) -> tuple[NDArray[np.int64], ...]:
        """Visible ids and codes of a cell, then wanted ids and true codes."""
        ids, codes = seen.ids[row, 1 : seen.lengths[row]], seen.values[row, 1 : seen.lengths[row]]
        if blind is None:
            wanted = self.random.random(len(ids)) < self.random.choice(RATIOS)
        else:
            wanted = self.modality[ids] == blind
        absent = np.empty(0, np.int64)
        if self.plan.zeros:
            among = np.concatenate(self.features) if blind is None else self.features[blind]
            absent = np.setdiff1d(among, ids)
            if blind is None or len(among) > FEW:
                absent = self.random.choice(absent, min(len(absent), int(wanted.sum())), replace=False)
        asked = np.concatenate([ids[wanted], absent])
        return ids[~wanted], codes[~wanted], asked, np.concatenate([codes[wanted], np.zeros(len(absent), np.int64)])

    def _batch(self, found: list[tuple[NDArray[np.int64], ...]], rows: NDArray[np.int64], dropped: bool) -> Masked:
        rules = self.rules()
        longest = 1 + max(len(visible) + len(asked) for visible, _, asked, _ in found)
        shape = (len(found), longest)
        ids, codes = np.full(shape, rules.pad_id), np.full(shape, rules.pad_code)
        target, hidden, padding = codes.copy(), np.zeros(shape, bool), np.ones(shape, bool)
        for row, (visible, seen, asked, true) in enumerate(found):
            first, last = 1 + len(visible), 1 + len(visible) + len(asked)
            ids[row, 0], codes[row, 0] = rules.cls_id, rules.cls_code
            ids[row, 1:first], codes[row, 1:first] = visible, seen
            ids[row, first:last], codes[row, first:last], target[row, first:last] = asked, rules.mask_code, true
            hidden[row, first:last] = True
            padding[row, : first if dropped else last] = False
        labels = torch.from_numpy(self.labels[rows]) if len(self.labels) else None
        arrays = (torch.from_numpy(array) for array in (ids, codes, target, hidden, padding))
        return Masked(*arrays, labels=labels, mods=torch.from_numpy(self.modality[ids]))
