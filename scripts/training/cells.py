"""Cells that a small model is trained on or judged by: read whole, cut, normalised, their variable genes chosen.

In: an h5ad with counts in X. Out: `Cells`, and dense log values. It knows nothing of tokens and models.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

BINS_OF_MEANS = 20
"""Genes of like mean that a gene's variance is compared with."""

COPY = 0.95
"""Cosine of log counts above which two cells are one: copies reach 0.95 and more, other pairs 0.85 at the most where
hundreds of genes are shared."""
FEWEST_SHARED = 300


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of one panel of genes.

    Attributes
    ----------
    name
        For reports.
    counts
        (n_cells, n_genes) CSR, float32.
    genes, cells
        Names of columns and rows.
    obs
        Columns of obs that were asked for, (n_cells,) text each.
    """

    name: str
    counts: sp.csr_matrix
    genes: tuple[str, ...]
    cells: NDArray[np.str_]
    obs: dict[str, NDArray[np.str_]] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.counts.shape[0]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64], name: str = "") -> "Cells":
        """Some of the cells, by mask or by number."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        obs = {column: values[rows] for column, values in self.obs.items()}
        return replace(self, name=name or self.name, counts=self.counts[rows], cells=self.cells[rows], obs=obs)

    def keep(self, genes: Iterable[str]) -> "Cells":
        """The same cells with some of their genes, in the file's order."""
        kept = set(genes)
        columns = [column for column, gene in enumerate(self.genes) if gene in kept]
        return replace(self, counts=self.counts[:, columns], genes=tuple(self.genes[column] for column in columns))


def read(path: Path, columns: Sequence[str] = (), name: str = "") -> Cells:
    """Read a file whole.

    Parameters
    ----------
    path
        An h5ad with counts in X.
    columns
        Columns of obs to keep, as text.
    name
        For reports; else that of the file.
    """
    found = anndata.read_h5ad(path)
    counts = sp.csr_matrix(found.X, dtype=np.float32)
    counts.sort_indices()
    return Cells(
        name or path.stem,
        counts,
        tuple(map(str, found.var_names)),
        np.array(found.obs_names, str),
        {column: found.obs[column].to_numpy(str) for column in columns},
    )


def log_normalised(counts: sp.csr_matrix, columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log of counts per 10,000 of the whole cell, for some of its genes, dense."""
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    return sp.csr_matrix(sp.diags(1e4 / total) @ counts)[:, columns].log1p().toarray().astype(np.float32)


def variable_genes(cells: Cells, n_genes: int, among: Iterable[str] = (), group: str = "") -> tuple[str, ...]:
    """The genes that vary most, for their mean; in each group of cells alike where there are groups.

    Parameters
    ----------
    cells
        The cells, with counts.
    n_genes
        How many; fewer come out where fewer are expressed.
    among
        The only genes that count, such as those of a vocabulary; all where there are none.
    group
        Column of obs, such as the batch: genes are ranked within each group and by their mean rank.

    Returns
    -------
    Names in the order of the file.
    """
    allowed = set(among) or set(cells.genes)
    columns = np.array([column for column, gene in enumerate(cells.genes) if gene in allowed], np.int64)
    groups = cells.obs[group] if group else np.zeros(cells.n_cells, int)
    ranks = np.zeros(len(columns))
    for one in np.unique(groups):
        excess = _excess(log_normalised(cells.counts[np.flatnonzero(groups == one)], columns))
        ranks[np.argsort(-excess, kind="stable")] += np.arange(len(columns))
    expressed = np.asarray(cells.counts[:, columns].getnnz(axis=0)).ravel() > 0
    ranked = np.argsort(np.where(expressed, ranks, np.inf), kind="stable")[: min(n_genes, int(expressed.sum()))]
    return tuple(cells.genes[column] for column in columns[np.sort(ranked)])


def _excess(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n_genes,) variance of each gene, in standard deviations above that of genes of like mean."""
    mean, variance = values.mean(axis=0, dtype=np.float64), values.var(axis=0, dtype=np.float64)
    spread = np.log(variance + 1e-6)
    edges = np.unique(np.quantile(mean[variance > 0], np.linspace(0, 1, BINS_OF_MEANS + 1)[1:-1]))
    bins = np.digitize(mean, edges)
    excess = np.full(len(mean), -np.inf)
    for number in np.unique(bins):
        of_bin = (bins == number) & (variance > 0)
        if of_bin.any():
            excess[of_bin] = (spread[of_bin] - spread[of_bin].mean()) / (spread[of_bin].std() + 1e-6)
    return excess


def copies(
    counts: sp.csr_matrix, genes: Sequence[str], judges: sp.csr_matrix, judge_genes: Sequence[str]
) -> NDArray[np.bool_]:
    """(n_cells,) which cells are also among those that judge, told by their counts of the genes that both have."""
    place = {gene: column for column, gene in enumerate(judge_genes)}
    mine = [column for column, gene in enumerate(genes) if gene in place]
    theirs = [place[genes[column]] for column in mine]
    if len(mine) < FEWEST_SHARED:
        return np.zeros(counts.shape[0], bool)
    likeness = _unit(counts[:, mine]) @ _unit(judges[:, theirs]).T
    return np.asarray(likeness.max(axis=1).toarray().ravel() > COPY)


def _unit(counts: sp.csr_matrix) -> sp.csr_matrix:
    logged = counts.log1p()
    norm = np.sqrt(np.asarray(logged.multiply(logged).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1 / np.maximum(norm, 1e-12)) @ logged)
