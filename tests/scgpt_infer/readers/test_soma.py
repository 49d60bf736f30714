"""SOMA experiments and the Census: the same cells as from AnnData, by joinids, of a folder or a release."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scgpt_infer
from scgpt_infer import cli
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError, MissingDependencyError

tiledbsoma = pytest.importorskip("tiledbsoma")

from soma_folders import write_census, write_soma  # noqa: E402, it needs what may not be installed


@pytest.fixture
def experiment(cells: ad.AnnData, tmp_path: Path) -> Path:
    return write_soma(cells, tmp_path / "experiment")


@pytest.fixture
def census(cells: ad.AnnData, tmp_path: Path) -> Path:
    mouse = cells[:50].copy()
    mouse.var_names = [name.title() for name in cells.var["feature_name"]]
    human = cells.copy()
    human.var_names = list(cells.var["feature_name"])
    return write_census(tmp_path / "census", {"homo_sapiens": human, "mus_musculus": mouse})


@pytest.mark.parametrize("is_dense", [False, True])
def test_blocks_and_tables_are_those_of_the_anndata(is_dense: bool, cells: ad.AnnData, same: Callable, tmp_path: Path):
    n = cells.n_obs // 2
    cells.obs["number"] = np.arange(2 * n)
    cells.obs["share"] = np.where(np.arange(2 * n) % 2, np.nan, 0.1).astype(np.float32)
    cells.obs["flag"] = [True, False] * n
    cells.obs["missing"] = pd.Categorical(["x", None] * n)
    kind: dict[str, object] = {"X_kind": tiledbsoma.DenseNDArray} if is_dense else {}
    if is_dense:
        cells.X = cells.X.toarray()
    path = write_soma(cells, tmp_path / "experiment", **kind)
    spans = [range(48, 96), range(0, 7), range(96, 130)]
    with open_cells(path) as ours, open_cells(cells) as theirs:
        assert all(same(a, b) for a, b in zip(ours.blocks(spans), theirs.blocks(spans), strict=True))
        assert same(ours.sample(40), theirs.sample(40))
        assert (ours.counts, ours.values, ours.why) == (theirs.counts, theirs.values, theirs.why)
        assert ours.cell_names(3, 60) == theirs.cell_names(3, 60)
        assert ours.cell_columns == theirs.cell_columns
        for name in (*theirs.cell_columns, "index"):
            assert ours.cell_column(name).tolist() == theirs.cell_column(name).tolist()
        assert {name: list(names) for name, names in ours.gene_names.items()} == dict(theirs.gene_names)
        assert ours.joinids(5, 8).tolist() == [5, 6, 7]
        table = ours.cell_table()
    assert table.pop("soma_joinid").tolist() == list(range(cells.n_obs))
    assert list(table.index) == list(cells.obs_names)
    assert table["cell_type"].astype(str).tolist() == cells.obs["cell_type"].astype(str).tolist()


@pytest.mark.parametrize("name", ["barcode", "index"])
def test_an_index_with_a_name_is_the_index(name: str, cells: ad.AnnData, tmp_path: Path):
    cells.obs.index.name, cells.var.index.name = name, "gene_ids" if name == "barcode" else name
    with open_cells(write_soma(cells, tmp_path / "experiment")) as ours, open_cells(cells) as theirs:
        assert ours.cell_names(0, 3) == theirs.cell_names(0, 3)
        assert (ours.cell_columns, ours.cell_column(name)[0]) == (theirs.cell_columns, "cell-0")
        assert {name: list(names) for name, names in ours.gene_names.items()} == dict(theirs.gene_names)
        assert list(ours.cell_table().index) == list(cells.obs_names)


def test_vectors_are_those_of_the_h5ad_to_the_bit(toy_adata: ad.AnnData, toy_model: Path, tmp_path: Path):
    toy_adata.write_h5ad(tmp_path / "c.h5ad")
    bare = ad.AnnData(toy_adata.X, obs=toy_adata.obs, var=toy_adata.var)
    path = write_soma(bare, tmp_path / "experiment")
    found = [
        scgpt_infer.embed_file(cells, tmp_path / f"{name}.npy", model=toy_model)
        for name, cells in (("h5ad", tmp_path / "c.h5ad"), ("soma", path))
    ]
    assert (tmp_path / "soma.npy").read_bytes() == (tmp_path / "h5ad.npy").read_bytes()
    assert (tmp_path / "soma.cells.txt").read_bytes() == (tmp_path / "h5ad.cells.txt").read_bytes()
    assert found[0].vector_id == found[1].vector_id
    kept = scgpt_infer.embed(path, model=toy_model, where="kind == 'b'", limit=7)
    rows = np.load(tmp_path / "h5ad.npy")[1:14:2]
    assert kept.obsm["X_scGPT"].tobytes() == rows.tobytes()
    assert list(kept.obs_names) == list(toy_adata.obs_names[1:14:2])


def test_a_filter_chooses_cells_in_the_order_of_their_joinids(experiment: Path, cells: ad.AnnData, dense: Callable):
    b_cells = np.flatnonzero(cells.obs["cell_type"] == "B")
    with open_cells(experiment, where="cell_type == 'B'") as source:
        assert source.n_cells == len(b_cells)
        assert source.joinids(0, source.n_cells).tolist() == b_cells.tolist()
        assert source.cell_names(10, 13) == list(cells.obs_names[b_cells[10:13]])
        assert set(source.cell_column("cell_type")) == {"B"}
        assert source.cell_column("soma_joinid")[:2].tolist() == ["1", "3"]
        np.testing.assert_array_equal(dense(source, 16), cells.X.toarray()[b_cells])
        assert source.origin["where"] == "cell_type == 'B'"


def test_layers_and_raw_have_the_names_that_they_had(cells: ad.AnnData, tmp_path: Path, dense: Callable):
    counts = cells.X.copy()
    cells.raw = cells.copy()
    cells.layers["halves"] = counts * np.float32(0.5)
    cells.X = sparse.csr_matrix(counts.toarray() - counts.mean())  # scaled
    narrow = cells[:, :20].copy()
    path = write_soma(narrow, tmp_path / "experiment")
    with open_cells(path) as source:
        assert (source.counts, source.n_genes) == ("raw/X", 40)
        assert list(source.gene_names["feature_name"])[39] == "GENE39"
        np.testing.assert_array_equal(dense(source), counts.toarray())
    with open_cells(path, layer="halves") as source:
        assert (source.counts, source.n_genes) == ("layers/halves", 20)
        np.testing.assert_array_equal(dense(source), counts.toarray()[:, :20] * np.float32(0.5))
    cells.layers["counts"] = counts
    with open_cells(write_soma(cells, tmp_path / "counted")) as source:
        assert source.counts == "layers/counts"


def test_a_copy_of_the_census_gives_counts_of_an_organism(census: Path, cells: ad.AnnData, dense: Callable):
    with open_cells(census) as source:
        assert source.counts == "layers/raw"
        assert "one 'raw'" in source.why
        assert source.cell_names(1, 4) == ["4", "7", "10"]  # it keeps no names
        assert source.gene_names["feature_name"][:2] == ["GENE0", "GENE1"]
        assert source.gene_names["index"][1] == "ENSG00000000001"
        np.testing.assert_array_equal(dense(source), cells.X.toarray())
        assert source.origin == {
            "census_version": "2025-01-30",
            "organism": "homo_sapiens",
            "measurement": "RNA",
        }
    with open_cells(census, organism="mus_musculus", where="cell_type == 'T'", layer="normalized") as source:
        assert (source.n_cells, source.counts) == (25, "layers/normalized")
        assert source.gene_names["feature_name"][0] == "Gene0"
        np.testing.assert_array_equal(dense(source), cells.X.toarray()[:50:2] * np.float32(0.5))
    with pytest.raises(CellsError, match=r"has no experiment 'rat'; it has homo_sapiens, mus_musculus.*--organism"):
        open_cells(census, organism="rat")


def test_an_experiment_of_the_census_may_be_named_itself(census: Path):
    with open_cells(census / "census_data" / "mus_musculus") as source:
        assert source.n_cells == 50
        assert source.origin == {"measurement": "RNA"}
    with pytest.raises(CellsError, match=r"is one experiment.*Leave the organism out"):
        open_cells(census / "census_data" / "mus_musculus", organism="mus_musculus")


def test_a_release_is_asked_of_the_package_of_the_census(census: Path, monkeypatch):
    asked: list[object] = []

    def describe(release: str) -> dict[str, str]:
        if release != "stable":
            raise ValueError(f"Unable to locate Census version: {release}")
        return {"release_build": "2025-01-30"}

    def opened(*, census_version: str, tiledb_config: dict[str, str]) -> object:
        asked.append((census_version, tiledb_config["sm.compute_concurrency_level"]))
        return tiledbsoma.open(str(census))

    package = SimpleNamespace(get_census_version_description=describe, open_soma=opened)
    monkeypatch.setitem(sys.modules, "cellxgene_census", package)
    with open_cells("census:stable", threads=1) as source:
        assert asked == [("2025-01-30", "1")]
        assert (source.n_cells, source.path) == (130, None)
        assert source.origin["census_version"] == "2025-01-30"
    with pytest.raises(CellsError, match=r"census:2001-01-01 cannot be read: Unable to locate Census version"):
        open_cells("census:2001-01-01")
    monkeypatch.setitem(sys.modules, "cellxgene_census", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[census\]"'):
        open_cells("census:stable")


def test_the_package_of_the_census_takes_what_it_is_told():
    package = pytest.importorskip("cellxgene_census")
    from inspect import signature

    signature(package.open_soma).bind(census_version="2025-01-30", tiledb_config={})
    signature(package.get_census_version_description).bind("stable")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (
            {"where": "cell_typ == 'B'"},
            r"where cell_typ == 'B' cannot be read: Column cell_typ does not exist.*columns obs_id, cell_type",
        ),
        ({"where": "cell_type =="}, r"Could not parse the given QueryCondition"),
        ({"where": "cell_type == 'NK'"}, r"has no cell where cell_type == 'NK'; there is nothing to embed"),
        ({"modality": "ATAC"}, r"has no measurement 'ATAC'; it has RNA\. Choose one of them \(--modality\)"),
        ({"layer": "counts"}, r"has no layer 'counts'; choose one of: --layer X"),
        ({"organism": "homo_sapiens"}, r"is one experiment"),
        ({"cells_in": "columns"}, r"has its cells in rows always"),
    ],
)
def test_what_is_not_there_is_told(asked: dict[str, str], found: str, experiment: Path):
    with pytest.raises(CellsError, match=found):
        open_cells(experiment, **asked)


def test_what_is_no_experiment_is_told(experiment: Path, tmp_path: Path):
    with pytest.raises(CellsError, match=r"is a SOMADataFrame; expected a SOMAExperiment"):
        open_cells(f"file://{experiment}/obs")
    with pytest.raises(CellsError, match=r"nothing cannot be read: .*Check the address"):
        open_cells(f"soma://{tmp_path}/nothing")


def test_a_filter_is_refused_for_other_formats(toy_h5ad: Path, cells: ad.AnnData):
    for anything in (toy_h5ad, cells):
        with pytest.raises(CellsError, match=r"is no SOMA experiment, and --where \(where\) is for those"):
            open_cells(anything, where="cell_type == 'B'")


def test_an_array_that_does_not_fit_the_tables_is_damaged(experiment: Path):
    with tiledbsoma.open(str(experiment / "ms" / "RNA" / "var"), "d") as var:
        var.delete_cells((slice(39, 39),))
    with (
        pytest.raises(CellsError, match=r"has a value of the gene of joinid 39, which var does not have"),
        open_cells(experiment) as source,
    ):
        list(source.blocks(grid(source.n_cells)))


def test_without_tiledbsoma_the_line_to_install_it_is_given(experiment: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiledbsoma", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[soma\]"'):
        open_cells(experiment)


def test_a_query_becomes_a_contribution(cells: ad.AnnData, toy_model: Path, tmp_path: Path):
    cells.var_names = [f"G{i}" for i in range(cells.n_vars)]
    census = write_census(tmp_path / "census", {"homo_sapiens": cells})
    options = EmbedOptions(where="cell_type == 'T'", organism="homo_sapiens")
    scgpt_infer.embed_file(census, tmp_path / "x.npy", toy_model, options)
    summary = scgpt_infer.embed_file(census, tmp_path / "x.census", toy_model, options)
    vectors = np.load(tmp_path / "x.npy")
    kept = ~np.isnan(vectors).any(axis=1)
    assert np.load(tmp_path / "x.census/embeddings.npy").tobytes() == vectors[kept].tobytes()
    assert np.load(tmp_path / "x.census/joinids.npy").tolist() == [int(row) * 6 + 1 for row in np.flatnonzero(kept)]
    text = (tmp_path / "x.census/meta.yml").read_text()
    assert 'census_version: "2025-01-30"\nexperiment_name: "homo_sapiens"' in text
    assert f"n_embeddings: {summary.n_embedded}\n" in text


def test_shards_of_a_query_make_the_same_contribution(toy_adata: ad.AnnData, toy_model: Path, tmp_path: Path):
    bare = ad.AnnData(toy_adata.X, obs=toy_adata.obs, var=toy_adata.var)
    census = write_census(tmp_path / "census", {"homo_sapiens": ad.concat([bare, bare], index_unique="-")})
    words = ["embed", f"file://{census}", "--model", str(toy_model), "--where", "kind != 'c'", "--quiet"]
    assert cli.run([*words, "-o", str(tmp_path / "whole.census")]) == 0
    for shard in ("1/2", "0/2"):
        assert cli.run([*words, "--shard", shard, "-o", str(tmp_path / "parts.census")]) == 0
    assert cli.run(["merge", str(tmp_path / "parts.census.parts"), "-o", str(tmp_path / "merged.census")]) == 0
    for name in ("embeddings.npy", "joinids.npy", "meta.yml"):
        assert (tmp_path / "merged.census" / name).read_bytes() == (tmp_path / "whole.census" / name).read_bytes()
    joinids = np.load(tmp_path / "whole.census/joinids.npy")
    assert (len(joinids), joinids[-1]) == (2198, 2199 * 3 + 1)  # two cells have no counts
