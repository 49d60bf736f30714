"""The cells of a comparison: a draw that anyone can repeat, written as the one file that all sides read.

In: an ``.h5ad`` of raw counts. Out: a smaller one. `draw_long` makes cells of at least so many genes by adding real
cells up, since few cells have 1,200 genes.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw", "draw_long", "draw_others", "rows_of"]


def rows_of(n_cells: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """Rows of a draw without replacement, ascending.

    Raises
    ------
    SystemExit
        When the file has fewer cells than that.
    """
    if wanted > n_cells:
        raise SystemExit(f"Found {n_cells} cells, expected at least the {wanted} to draw. Ask for fewer with --n.")
    return np.sort(np.random.default_rng(seed).choice(n_cells, wanted, replace=False)).astype(np.int64)


def draw(source: Path, output: Path, wanted: int, seed: int) -> None:
    """Write a draw of a file's cells to another file."""
    from anndata import read_h5ad

    cells = read_h5ad(source)
    cells[rows_of(cells.n_obs, wanted, seed)].copy().write_h5ad(output)


def draw_others(source: Path, output: Path, drawn: int, wanted: int, seed: int) -> None:
    """Write cells that `draw` leaves out, as many as are wanted or there are."""
    from anndata import read_h5ad

    cells = read_h5ad(source)
    left = np.setdiff1d(np.arange(cells.n_obs), rows_of(cells.n_obs, drawn, seed))
    if not len(left):
        raise SystemExit(f"{source} has no cells beyond the {drawn} drawn to calibrate int8 with. Draw fewer with --n.")
    cells[left[rows_of(len(left), min(wanted, len(left)), seed)]].copy().write_h5ad(output)


def draw_long(source: Path, vocabulary: Path, output: Path, wanted: int, genes: int, seed: int) -> bool:
    """Write cells of at least `genes` known genes, each the sum of as many drawn cells as it takes.

    False, and no file, where the cells have too few known genes for that.
    """
    from anndata import AnnData, read_h5ad
    from scipy.sparse import csr_matrix

    cells = read_h5ad(source)
    matrix = csr_matrix(cells.X)
    known = np.isin(cells.var_names, list(json.loads(vocabulary.read_text(encoding="utf-8"))))
    order = np.random.default_rng(seed).permutation(cells.n_obs)
    made: list[NDArray[np.float32]] = []
    total = np.zeros(cells.n_vars, np.float32)
    for row in np.resize(order, 50 * wanted):
        total = total + matrix[row].toarray()[0]
        if np.count_nonzero(total[known]) >= genes:
            made.append(total)
            total = np.zeros_like(total)
        if len(made) == wanted:
            break
    else:
        output.unlink(missing_ok=True)
        return False
    AnnData(csr_matrix(np.array(made)), var=cells.var[[]]).write_h5ad(output)
    return True
