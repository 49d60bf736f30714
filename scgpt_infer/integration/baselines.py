"""What an embedding is compared with: principal components of the same cells, and Harmony on them.

In: a source of cells, or their values; the batch of each. Out: vectors. It knows no model.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from scgpt_infer.readers import CellSource
from scgpt_infer.spans import grid

__all__ = ["COMPONENTS", "VARIABLE_GENES", "components", "harmonised", "values_of"]

COMPONENTS = 50
VARIABLE_GENES = 2000


def values_of(source: CellSource, rows: NDArray[np.int64]) -> sp.csr_matrix:
    """(n_rows, n_genes) float32 values of some cells, whose rows ascend; blocks are read one at a time."""
    values: sp.csr_matrix = sp.vstack(list(_parts(source, rows)), format="csr", dtype=np.float32)
    return values


def _parts(source: CellSource, rows: NDArray[np.int64]) -> Iterator[sp.csr_matrix]:
    for block in source.blocks(grid(int(rows[-1]) + 1)):
        wanted = rows[(rows >= block.first_row) & (rows < block.first_row + block.n_cells)] - block.first_row
        shape = (block.n_cells, source.n_genes)
        yield sp.csr_matrix((block.data, block.indices, block.indptr), shape=shape)[wanted]


def components(
    values: sp.csr_matrix, batches: NDArray[np.str_], kind: str = "integer", n: int = COMPONENTS
) -> NDArray[np.float32]:
    """Principal components of log-normalised values of the genes that vary most within batches.

    Parameters
    ----------
    values
        (n_cells, n_genes), of one kind.
    batches
        (n_cells,) batch of each cell.
    kind
        What the values are: ``integer``, ``normalised`` or ``log1p``, as sources tell it.
    n
        How many components; fewer where there are fewer cells or genes.

    Returns
    -------
    NDArray
        (n_cells, n) float32.
    """
    import pandas as pd
    import scanpy as sc
    from anndata import AnnData

    names = [str(row) for row in range(len(batches))]
    cells = AnnData(values.copy(), obs=pd.DataFrame({"batch": pd.Categorical(batches)}, index=names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy warns of its own future, and of cells that are named by number
        sc.pp.filter_genes(cells, min_cells=3)
        if kind != "log1p":
            sc.pp.normalize_total(cells, target_sum=1e4)
            sc.pp.log1p(cells)
        if cells.n_vars > VARIABLE_GENES:
            sc.pp.highly_variable_genes(cells, n_top_genes=VARIABLE_GENES, batch_key="batch")
            cells = cells[:, cells.var["highly_variable"]].copy()
        sc.pp.pca(cells, n_comps=min(n, cells.n_obs - 1, cells.n_vars - 1), random_state=0)
    return np.asarray(cells.obsm["X_pca"], np.float32)


def harmonised(before: NDArray[np.float32], batches: NDArray[np.str_]) -> NDArray[np.float32]:
    """Components with the batches taken out by Harmony, (n_cells, n) float32; every option is Harmony's own."""
    import harmonypy
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clusters that have not settled, in scikit-learn
        found = harmonypy.run_harmony(before, pd.DataFrame({"batch": batches}), "batch", verbose=False).Z_corr
    found = np.asarray(found, np.float32)
    return found if len(found) == len(before) else found.T  # older versions give a column a cell
