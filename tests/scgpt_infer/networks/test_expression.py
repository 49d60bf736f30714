"""What cells tell of genes: sums whatever the blocks, variable genes and scores by hand."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.gene_vectors.groups import Groups, groups_of
from scgpt_infer.networks import expression as module
from scgpt_infer.networks.expression import Expression, expression
from scgpt_infer.networks.scoring import group_scores
from scgpt_infer.networks.variable import dispersions, most_variable
from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError

N_CELLS, N_GENES = 60, 200
EMPTY, NAN = 4, 9


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    random = np.random.default_rng(1)
    dense = random.poisson(random.gamma(0.6, 2.0, N_GENES), (N_CELLS, N_GENES)).astype(np.float32)
    dense[EMPTY] = 0
    dense[NAN, 3] = np.nan
    kinds = np.array(["b", "a", ""])[np.arange(N_CELLS) % 3]
    obs = pd.DataFrame({"kind": kinds}, [f"cell-{row}" for row in range(N_CELLS)])
    return ad.AnnData(sparse.csr_matrix(dense), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)]))


def found_in(cells: ad.AnnData, by: str | None = "kind", n_cells: int = N_CELLS) -> Expression:
    with open_cells(cells) as source:
        return expression(source, groups_of(source, by, n_cells))


def scaled(cells: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Values of 10,000 a cell, and which cells they are of."""
    good = np.setdiff1d(np.arange(N_CELLS), [EMPTY, NAN])
    dense = cells.X.toarray()[good].astype(np.float64)
    return dense * (10_000 / dense.sum(axis=1, keepdims=True)), good


def test_sums_are_those_of_the_cells_that_can_be_used(cells):
    found = found_in(cells)
    values, good = scaled(cells)
    np.testing.assert_allclose(found.values, values.sum(axis=0))
    np.testing.assert_allclose(found.squares, (values**2).sum(axis=0))
    np.testing.assert_allclose(found.means, np.log1p(values).mean(axis=0))
    kinds = cells.obs["kind"].to_numpy()[good]
    np.testing.assert_allclose(found.group_means[0], np.log1p(values[kinds == "a"]).mean(axis=0))
    assert (found.n_cells, found.n_bad, found.cells.tolist()) == (58, 2, [19, 19, 20])


def test_blocks_do_not_show(cells, monkeypatch):
    whole = found_in(cells)
    monkeypatch.setattr(module, "grid", lambda n_cells: grid(n_cells, 7))
    parts = found_in(cells)
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-12)
    np.testing.assert_allclose(parts.logs, whole.logs, rtol=1e-12)


def test_values_that_were_logged_are_taken_back(cells):
    values, good = scaled(cells)
    logged = cells[good].copy()
    logged.X = sparse.csr_matrix(np.log1p(values).astype(np.float32))
    found = found_in(logged, None, len(good))
    np.testing.assert_allclose(found.values, values.sum(axis=0), rtol=1e-5)


def test_cells_that_all_cannot_be_used_are_an_error(cells):
    empty = cells.copy()
    empty.X = sparse.csr_matrix((N_CELLS, N_GENES), dtype=np.float32)
    with pytest.raises(CellsError, match="None of the 60 cells"):
        found_in(empty)


def test_the_most_variable_genes_are_those_that_vary_for_their_mean(cells):
    loud = cells[np.setdiff1d(np.arange(N_CELLS), [EMPTY, NAN])].copy()
    dense = loud.X.toarray()
    for gene in (20, 70, 120):  # the same sum in a few cells alone
        total = dense[:, gene].sum() + 60
        dense[:, gene] = 0
        dense[gene % 50 : gene % 50 + 3, gene] = total / 3
    loud.X = sparse.csr_matrix(dense)
    found = found_in(loud, None, loud.n_obs)
    everything = np.ones(N_GENES, bool)
    assert {20, 70, 120} <= set(most_variable(found, 10, everything).tolist())
    everything[70] = False
    assert 70 not in most_variable(found, 10, everything)
    assert len(most_variable(found, 10_000, everything)) < N_GENES


def test_dispersions_are_those_of_scanpy(cells):
    sc = pytest.importorskip("scanpy")
    values, good = scaled(cells)
    theirs = cells[good].copy()
    theirs.X = np.log1p(values)
    theirs.uns["log1p"] = {"base": None}
    table = sc.pp.highly_variable_genes(theirs, flavor="seurat", n_top_genes=20, inplace=False)
    found = found_in(cells)
    np.testing.assert_allclose(dispersions(found), table["dispersions_norm"].to_numpy(), rtol=1e-4, atol=1e-6)


def test_scores_are_means_less_those_of_genes_of_like_mean(cells):
    with open_cells(cells) as source:
        groups = groups_of(source, "kind", N_CELLS)
        found = expression(source, groups)
    first = np.array([3, 50, 110])
    told = group_scores(found, groups, "kind", [first, np.zeros(0, np.int64)])
    size = round(N_GENES / 24)
    bins = pd.Series(found.means).rank(method="min").to_numpy() // size
    control = np.setdiff1d(np.flatnonzero(np.isin(bins, bins[first])), first)
    expected = found.group_means[:, first].mean(axis=1) - found.group_means[:, control].mean(axis=1)
    np.testing.assert_allclose(told.scores[0], expected, rtol=1e-6)
    assert sorted(told.scaled[0].tolist()) == [0, 1]
    assert np.isnan(told.scores[1]).all()
    assert (told.groups, told.cells.tolist()) == (("a", "b"), [19, 19])


def test_a_large_bin_of_genes_that_no_cell_has_weighs_no_more_than_scanpys_draw():
    """A metagene may have genes that are not expressed, and their bin thousands of others."""
    n_silent, n_loud = 1000, 960
    means = np.concatenate([np.zeros(n_silent), np.linspace(1, 2, n_loud)])
    found = Expression(means, means, np.stack([means, 0 * means]), np.array([1, 0]))
    columns = np.array([0, n_silent + 500])
    told = group_scores(found, Groups(("a",), np.zeros(1, np.int64)), "kind", [columns])
    bins = pd.Series(means).rank(method="min").to_numpy() // round(len(means) / 24)
    like = np.setdiff1d(np.flatnonzero(bins == bins[columns[1]]), columns)
    assert len(like) >= 50
    expected = means[columns].mean() - means[like].mean() / 2  # 50 of each bin
    np.testing.assert_allclose(told.scores, [[expected]], rtol=1e-6)
