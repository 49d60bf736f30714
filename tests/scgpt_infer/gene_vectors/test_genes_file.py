"""Vectors of genes in files: each format, each gene of each cell, and what is refused before any work."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from scgpt_infer import schema
from scgpt_infer.gene_vectors import GeneOptions, cell_genes, context_free, genes_file, in_cells, open_states
from scgpt_infer.gene_vectors import per_cell as per_cell_module
from scgpt_infer.readers import open_cells
from scgpt_infer.writers import parquet
from scgpt_runtime.errors import OptionError, OutputError
from scgpt_runtime.vocab import match

from .conftest import EMPTY, N_CELLS, NAN, PLAIN


def test_an_h5ad_has_a_gene_a_row(tiny_bundle, tmp_path):
    summary = genes_file(tmp_path / "genes.h5ad", tiny_bundle)
    found, expected = ad.read_h5ad(tmp_path / "genes.h5ad"), context_free(tiny_bundle)
    assert tuple(found.obs_names) == expected.genes
    np.testing.assert_array_equal(found.obsm["X_scGPT_genes"], expected.vectors)
    assert found.uns["scgpt_infer"]["vector_id"] == summary.vector_id
    assert summary.complete
    assert (summary.n_rows, summary.n_genes) == (3200, 3200)
    assert "vectors of 3,200 genes" in summary.report()


def test_groups_are_rows_with_their_cells(cells, cells_file, tiny_bundle, tmp_path):
    how = GeneOptions(by="kind", min_cells=3)
    expected = in_cells(cells, tiny_bundle, how, PLAIN)
    summary = genes_file(tmp_path / "genes.h5ad", tiny_bundle, cells_file, how, PLAIN)
    found = ad.read_h5ad(tmp_path / "genes.h5ad")
    assert found.obs_names.is_unique
    assert found.obs_names[0] == f"{expected.genes[0]} (a)"
    assert tuple(found.obs["gene"]) == expected.genes
    assert tuple(found.obs["kind"]) == expected.groups
    np.testing.assert_array_equal(found.obs["cells"], expected.cells)
    np.testing.assert_array_equal(found.obsm["X_scGPT_genes"], expected.vectors)
    assert summary.groups == {"a": 60, "b": 60}
    assert summary.n_without_group == 30
    assert summary.cells is not None
    assert [bad.row for bad in summary.cells.bad] == [EMPTY, NAN]
    told = json.loads(summary.to_json())
    assert told["cells"]["n_cells"] == N_CELLS
    assert "30 cells are in none" in summary.report()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_have_gene_group_cells_and_vector(cells, cells_file, tiny_bundle, tmp_path, suffix):
    how = GeneOptions(by="kind")
    expected, path = in_cells(cells, tiny_bundle, how, PLAIN), tmp_path / f"genes.{suffix}"
    genes_file(path, tiny_bundle, cells_file, how, PLAIN)
    found = pd.read_csv(path, float_precision="round_trip") if suffix == "csv" else pq.read_table(path).to_pandas()
    assert list(found.columns[:3]) == ["gene", "kind", "cells"]
    assert "error" not in found.columns
    assert tuple(found["gene"]) == expected.genes
    assert tuple(found["kind"]) == expected.groups
    np.testing.assert_array_equal(found["cells"], expected.cells)
    vectors = found.iloc[:, 3:].to_numpy(np.float32) if suffix == "csv" else np.stack(found["embedding"])
    np.testing.assert_array_equal(vectors, expected.vectors)


def test_an_array_has_the_names_beside_it(cells, cells_file, tiny_bundle, tmp_path):
    expected = in_cells(cells, tiny_bundle, options=PLAIN)
    genes_file(tmp_path / "genes.npy", tiny_bundle, cells_file, options=PLAIN)
    np.testing.assert_array_equal(np.load(tmp_path / "genes.npy"), expected.vectors)
    assert tuple((tmp_path / "genes.genes.txt").read_text().splitlines()) == expected.genes


@pytest.mark.parametrize("by", [None, "kind"])
def test_a_document_keeps_to_the_schema_and_to_every_bit(cells, cells_file, tiny_bundle, tmp_path, by):
    how = GeneOptions(by=by, min_cells=3)
    expected = in_cells(cells, tiny_bundle, how, PLAIN)
    genes_file(tmp_path / "genes.json", tiny_bundle, cells_file, how, PLAIN)
    found = json.loads((tmp_path / "genes.json").read_text())
    Draft202012Validator(schema.schema()).validate(found)
    rows = found["vectors"]["genes"]
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.float32), expected.vectors)
    assert tuple(row["gene"] for row in rows) == expected.genes
    assert [row["n_cells"] for row in rows] == expected.cells.tolist()
    assert tuple(row["group"] for row in rows if "group" in row) == expected.groups
    assert (found["vectors"]["by"], found["vectors"]["min_cells"]) == (by, 3)
    assert (tmp_path / "genes.json").read_text() == expected.to_json()


def test_the_models_own_embeddings_as_a_document(genes, tiny_bundle, tmp_path):
    genes_file(tmp_path / "genes.json", tiny_bundle, how=GeneOptions(only=(genes[4], genes[2])))
    found = json.loads((tmp_path / "genes.json").read_text())
    Draft202012Validator(schema.schema()).validate(found)
    assert [set(row) for row in found["vectors"]["genes"]] == [{"gene", "embedding"}] * 2
    assert (found["vectors"]["by"], found["vectors"]["min_cells"]) == (None, None)


def test_each_gene_of_each_cell_is_a_row_in_order_and_bad_cells_tell_why(
    cells, cells_file, bundle, tiny_bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr(per_cell_module, "_ROWS", 500)  # several parts
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 1000)  # and row groups
    summary = genes_file(tmp_path / "x.parquet", tiny_bundle, cells_file, GeneOptions(per_cell=True), PLAIN)
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert file.num_row_groups > 2
    found = file.read().to_pandas()
    tokens = bundle.vocabulary().tokens
    columns = match(list(cells.var_names), bundle.vocabulary()).columns
    expected, vectors = [], []
    with open_states(bundle, PLAIN, None) as engine, open_cells(cells) as source:
        for one in cell_genes(engine, source, columns):
            names = [tokens[token] for token in one.ids.tolist()]
            expected += [(f"cell-{one.row}", name, None) for name in names]
            expected += [(f"cell-{one.row}", None, one.fault.reason)] if one.fault else []
            vectors.append(np.full((1, 64), np.nan, np.float32) if one.fault else one.vectors)
    rows = zip(
        found["cell"], found["gene"].astype(object).where(found["gene"].notna(), None), found["error"], strict=True
    )
    assert list(rows) == expected
    np.testing.assert_array_equal(np.stack(found["embedding"]), np.concatenate(vectors))
    assert summary.n_rows == len(expected)
    assert json.loads(file.metadata.metadata[b"scgpt_infer"])["result"] == "genes_of_cells"


def test_of_each_cell_only_the_genes_that_are_asked_for_are_written(cells, cells_file, genes, tiny_bundle, tmp_path):
    common = np.argsort(-np.nansum(cells.X[:, :100].toarray(), axis=0))[:2]
    asked = tuple(genes[gene] for gene in common)
    genes_file(tmp_path / "x.parquet", tiny_bundle, cells_file, GeneOptions(only=asked, per_cell=True), PLAIN)
    found = pq.read_table(tmp_path / "x.parquet").to_pandas()
    assert set(found["gene"].dropna()) == {*asked}
    assert set(found["cell"][found["gene"].isna()]) == {f"cell-{EMPTY}", f"cell-{NAN}"}


def test_genes_without_a_vector_are_told(cells_file, genes, tiny_bundle, tmp_path):
    how = GeneOptions(only=(genes[4], genes[9], "FOO"))
    summary = genes_file(tmp_path / "x.csv", tiny_bundle, cells_file, how, PLAIN)
    assert (summary.unknown, summary.missing, summary.n_genes) == (("FOO",), (genes[9],), 1)
    assert not summary.complete
    assert "not known  FOO" in summary.report()
    assert f"no vector  {genes[9]}: expressed in too few cells" in summary.report()


@pytest.mark.parametrize(
    ("name", "how", "error", "words"),
    [
        ("x.jsonl", {}, OutputError, r"go to \.h5ad, \.npy, \.parquet, \.csv, \.json"),
        ("x.npy", {"by": "kind"}, OutputError, "no place for groups"),
        ("x.h5ad", {"per_cell": True}, OutputError, r"go to \.parquet"),
    ],
)
def test_a_format_that_cannot_hold_it_is_refused_before_any_work(
    cells_file, tiny_bundle, tmp_path, name, how, error, words
):
    with pytest.raises(error, match=words):
        genes_file(tmp_path / name, tiny_bundle, cells_file, GeneOptions(**how), PLAIN)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("how", [{"by": "kind"}, {"min_cells": 2}, {"per_cell": True}])
def test_what_needs_cells_is_not_for_the_models_own_embeddings(tiny_bundle, tmp_path, how):
    with pytest.raises(OptionError, match="no file of cells was named"):
        genes_file(tmp_path / "x.parquet", tiny_bundle, None, GeneOptions(**how))
