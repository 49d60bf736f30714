"""The real cells that the demo model learns from and is judged on: read, labelled, split.

In: the folder of data sets. Out: `DataSet`s. Whole donors and whole batches are held out, and no cell that ships
or that judges is among those that train or select: copies are looked for, not only left out by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from demo_labels import CITESEQ_BLOOD, CITESEQ_MARROW, KANG, LABELS, TEN_BATCHES, Types
from numpy.typing import NDArray
from training import cells as files

KANG_TEST = ("101", "107")
KANG_VALIDATION = ("1039",)
BATCH_TEST = "10x_6K"
BATCH_VALIDATION = "SRR7244582"
PBMC3K_AGAIN = "GSE115189"

UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """Cells of one panel of genes.

    Attributes
    ----------
    name
        For reports.
    counts
        (n_cells, n_genes) CSR, float32.
    genes, cells
        Names of columns and rows.
    types
        (n_cells,) the data set's own labels, empty where it has none.
    allowed
        (n_cells, n_labels) bool: the model's labels that a cell's own label stands for; none: unlabelled.
    groups
        (n_cells,) donor or batch.
    """

    name: str
    counts: sp.csr_matrix
    genes: tuple[str, ...]
    cells: NDArray[np.str_]
    types: NDArray[np.str_]
    allowed: NDArray[np.bool_]
    groups: NDArray[np.str_]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.cells)

    def take(self, rows: NDArray[np.bool_], name: str = "") -> "DataSet":
        """The cells where `rows` is true."""
        return DataSet(
            name or self.name,
            self.counts[np.flatnonzero(rows)],
            self.genes,
            self.cells[rows],
            self.types[rows],
            self.allowed[rows],
            self.groups[rows],
        )


def read(
    path: Path, name: str, column: str = "", meaning: Mapping[str, Types] | None = None, group: str = ""
) -> DataSet:
    """Read a data set.

    Parameters
    ----------
    path
        An h5ad with counts in X.
    name
        For reports.
    column
        Column of obs with cell types; none where empty.
    meaning
        Own label to the model's labels; cells of other labels are unlabelled.
    group
        Column of obs with donor or batch.
    """
    found = files.read(path, [name for name in (column, group) if name], name)
    unknown = np.full(found.n_cells, UNKNOWN)
    types = found.obs.get(column, unknown)
    meaning = meaning or {}
    allowed = np.array([[label in meaning.get(own, ()) for label in LABELS] for own in types], bool)
    return DataSet(
        name,
        found.counts,
        found.genes,
        found.cells,
        types,
        allowed.reshape(found.n_cells, len(LABELS)),
        found.obs.get(group, unknown),
    )


@dataclass(frozen=True, slots=True)
class Split:
    """All cells, by use.

    Attributes
    ----------
    training
        Weights are learnt from these.
    validation
        The epoch is chosen by these.
    kang, batch, pbmc3k, shipped
        Judge: two donors, one batch, an unseen data set, and the cells that ship.
    dropped
        Copies of judging cells that were found, by data set.
    """

    training: tuple[DataSet, ...]
    validation: tuple[DataSet, ...]
    kang: DataSet
    batch: DataSet
    pbmc3k: DataSet
    shipped: DataSet
    dropped: dict[str, int]


def load(folder: Path, shipped: Path) -> Split:
    """Read every data set and split it."""
    kang = read(folder / "kang18_ctrl_12k.h5ad", "kang18", "cell_type", KANG, "donor")
    ten = read(folder / "pbmc_10batches_3000.h5ad", "pbmc_10batches", "cell_type", TEN_BATCHES, "batch")
    frozen = read(folder / "pbmc_frozen_donorA_2896.h5ad", "pbmc_frozen_donorA")
    marrow = read(folder / "citeseq_bm_pbmc_250_197adt.h5ad", "citeseq_bm_pbmc", "cell_type", CITESEQ_MARROW, "batch")
    blood = read(folder / "citeseq_pbmc_2batch_400.h5ad", "citeseq_pbmc", "cell_type", CITESEQ_BLOOD, "batch")
    pbmc3k = read(folder / "pbmc3k_labelled.h5ad", "pbmc3k", "cell_type")
    own = read(shipped, "shipped", "cell_type")

    known_copies = ten.take(ten.groups == PBMC3K_AGAIN, f"pbmc_10batches, {PBMC3K_AGAIN} (left out whole)")
    kang_seen = ~np.isin(kang.groups, KANG_TEST + KANG_VALIDATION)
    ten_seen = ~np.isin(ten.groups, (BATCH_TEST, BATCH_VALIDATION, PBMC3K_AGAIN))
    kang_training = kang.take(kang_seen)
    wide = wide_profiles(folder / "kang18_stim_ctrl_2000_9015g.h5ad", kang_training)
    training = (kang_training, wide, ten.take(ten_seen), frozen, marrow, blood)
    validation = (
        kang.take(np.isin(kang.groups, KANG_VALIDATION), "kang18, donor 1039"),
        ten.take(ten.groups == BATCH_VALIDATION, f"pbmc_10batches, {BATCH_VALIDATION}"),
    )
    kang_test = kang.take(np.isin(kang.groups, KANG_TEST), "kang18, donors 101 and 107")
    coarse = read(folder / "pbmc_10batches_3000.h5ad", "pbmc_10batches", "cell_type_coarse")
    batch_test = replace(ten, types=coarse.types).take(ten.groups == BATCH_TEST, f"pbmc_10batches, {BATCH_TEST}")
    judges = (kang_test, batch_test, pbmc3k, own)
    dropped: dict[str, int] = {}
    training = tuple(platelets(without_copies(cells, judges, dropped)) for cells in training)
    validation = tuple(without_copies(cells, judges, dropped) for cells in validation)
    without_copies(known_copies, judges, dropped)  # shows that copies are found where there are some
    return Split(training, validation, kang_test, batch_test, pbmc3k, own, dropped)


def wide_profiles(path: Path, kang: DataSet) -> DataSet:
    """The cells of `kang` that another file holds with 9,015 genes instead of 1,287.

    That file does not name donors. Its further cells, stimulated ones among them, may come from held-out donors, so
    they are left out.
    """
    wide = read(path, "kang18, all genes")
    row_of = {f"{cell}-ctrl": row for row, cell in enumerate(kang.cells)}
    known = np.array([cell in row_of for cell in wide.cells])
    there = np.array([row_of[cell] for cell in wide.cells[known]], np.int64)
    taken = wide.take(known)
    return replace(taken, types=kang.types[there], allowed=kang.allowed[there], groups=kang.groups[there])


def without_copies(cells: DataSet, judges: tuple[DataSet, ...], dropped: dict[str, int]) -> DataSet:
    """Leave out the cells that are also in a data set that judges; count them in `dropped`."""
    copies = np.zeros(cells.n_cells, bool)
    for judge in judges:
        copies |= files.copies(cells.counts, cells.genes, judge.counts, judge.genes)
    dropped[cells.name] = int(copies.sum())
    return cells.take(~copies)


def platelets(cells: DataSet) -> DataSet:
    """Label unlabelled platelets by their markers, since no labelled training data with all genes has any.

    PPBP and PF4 are both there and make up 1 % of the molecules; LYZ, of a monocyte stuck to it, is under 0.2 %.
    """
    columns = {gene: column for column, gene in enumerate(cells.genes)}
    if not {"PPBP", "PF4", "LYZ"} <= columns.keys():
        return cells
    total = np.maximum(np.asarray(cells.counts.sum(axis=1)).ravel(), 1)
    ppbp, pf4, lyz = (cells.counts[:, [columns[g]]].toarray().ravel() / total for g in ("PPBP", "PF4", "LYZ"))
    found = (ppbp > 0) & (pf4 > 0) & (ppbp + pf4 >= 0.01) & (lyz < 0.002) & ~cells.allowed.any(axis=1)
    allowed = cells.allowed.copy()
    allowed[found, LABELS.index("megakaryocyte")] = True
    return replace(cells, allowed=allowed)
