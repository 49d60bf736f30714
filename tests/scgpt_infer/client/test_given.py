import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.client import ReadOptions
from scgpt_infer.client.given import is_as_served, opened
from scgpt_runtime.errors import CellsError

HOW = ReadOptions()
DENSE = np.array([[1, 0, 2], [0, 3, 0]], np.float32)


def read(cells, genes=None) -> tuple[list[str], np.ndarray]:
    with opened(cells, genes, HOW) as (given, source):
        assert isinstance(given, ad.AnnData)
        (block,) = source.blocks([range(source.n_cells)])
        matrix = sparse.csr_matrix((block.data, block.indices, block.indptr), (source.n_cells, source.n_genes))
        return list(source.gene_names["index"]), matrix.toarray()


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix])
def test_a_matrix_with_names_of_genes(kind):
    names, matrix = read(kind(DENSE), ["A", "B", "C"])
    assert names == ["A", "B", "C"]
    np.testing.assert_array_equal(matrix, DENSE)


@pytest.mark.parametrize(
    "cells",
    [[{"A": 1, "C": 2}, {"B": 3}], [(["A", "C"], [1, 2]), (["B"], [3])], [(("A", "C"), np.array([1, 2])), {"B": 3}]],
)
def test_cells_told_one_by_one(cells):
    names, matrix = read(cells)
    assert names == ["A", "C", "B"]
    np.testing.assert_array_equal(matrix, DENSE[:, [0, 2, 1]])


def test_cells_as_the_server_takes_them_keep_their_names():
    told = [{"cell": "a", "genes": {"A": 1, "C": 2}}, {"genes": ["B"], "values": [3]}, {"C": 1.5}]
    with opened(told, None, HOW) as (given, source):
        assert source.cell_names(0, 3) == ["a", "1", "2"]
        assert given.obs_names.tolist() == ["a", "1", "2"]
    np.testing.assert_array_equal(read(told)[1], [[1, 2, 0], [0, 0, 3], [0, 1.5, 0]])


def test_a_gene_that_a_cell_has_twice_stays_two_values():
    names, matrix = read([(["A", "B", "A"], [1, 2, 3]), {"A": 4}])
    assert names == ["A", "B", "A"]
    np.testing.assert_array_equal(matrix, [[1, 2, 3], [4, 0, 0]])


def test_a_file_and_an_object_are_opened_as_they_are(toy_adata, toy_h5ad):
    with opened(toy_h5ad, None, ReadOptions(layer="dense")) as (given, source):
        assert given == toy_h5ad
        assert source.counts == "layers/dense"
    with opened(toy_adata, None, HOW) as (given, source):
        assert given is toy_adata


@pytest.mark.parametrize(
    ("cells", "genes", "words"),
    [
        (DENSE, None, "without names of genes"),
        (pd.DataFrame(DENSE), None, r"embed\(table.to_numpy\(\), table.columns\)"),
        (pd.DataFrame(DENSE), ["A", "B", "C"], r"embed\(table.to_numpy\(\), table.columns\)"),
        (DENSE, ["A", "B"], "2 names of genes"),
        (DENSE[0], ["A", "B", "C"], r"shape \(3,\)"),
        ([{"A": 1}], ["A"], "Leave them out"),
        ([(["A", "B"], [1])], None, "2 genes and 1 values"),
        ([(["A", "B"], 1)], None, "a pair of lists"),
        ([["A", "B"], ["C", "D"], 3], None, "a pair of lists"),
        ([3], None, "Cell 0 is 3; expected a dict"),
        ([{"A": 1}, {"CD3D": "x"}], None, "Cell 1 has 'x' for the gene 'CD3D'; expected a number"),
        ([{"CD3D": None}], None, "Cell 0 has None for the gene 'CD3D'"),
        ([(["A", "B"], [1, "2"])], None, "has '2' for the gene 'B'"),
        ([(["A"], np.ones((1, 1)))], None, "for the gene 'A'; expected a number"),
        ([{"A": 10**400}], None, "more than 300 digits"),
        ([{"cell": "AAAC-1", "genes": {"CD3D": "x"}}], None, r"Cell 0 \(AAAC-1\) has 'x' for the gene 'CD3D'"),
        ([{"cell": 5, "genes": {"A": 1}}], None, "is called 5; expected a text"),
        ([{"genes": ["A"]}], None, "a list of genes and no values"),
        ([{"genes": {"A": 1}, "values": [1]}], None, "a pair of lists"),
        ([{"genes": {"A": 1}, "obs": {"donor": "a"}}], None, "has obs; expected cell, genes and values"),
        ([{"modalities": {"RNA": {"A": 1}}}], None, "asked for by call"),
    ],
)
def test_what_is_wrong_is_told(cells, genes, words):
    with pytest.raises(CellsError, match=words), opened(cells, genes, HOW):
        pass


def test_cells_as_the_server_takes_them_are_told_apart():
    assert is_as_served([{"genes": {"A": 1}, "cell": "x"}, {"modalities": {"rna": {"A": 1}}}])
    assert not is_as_served([{"A": 1}])
    assert not is_as_served([])
    assert not is_as_served("cells.h5ad")
