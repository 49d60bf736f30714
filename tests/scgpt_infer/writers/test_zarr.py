"""A store that anndata reads, with the source's tables, in shards, and in place of a former one of ours alone."""

import json
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr

from scgpt_infer.writers import Part, Target, writer_of
from scgpt_infer.writers.sink import Column, Table
from scgpt_infer.writers.zarr import is_ours
from scgpt_runtime.errors import OutputError

N_CELLS = 1100


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "x.zarr"


def written(path, n_cells=N_CELLS, rows=400, dim=8, parts=lambda rows: {}, **changes):
    path.parent.mkdir(exist_ok=True)
    vectors = np.random.default_rng(2).normal(size=(n_cells, dim)).astype(np.float32)
    vectors[7] = np.nan
    target = Target(
        path, n_cells, dim, "X_scGPT", lambda a, b: [f"cell-{i}" for i in range(a, b)], ("G1", "G2"), **changes
    )
    with writer_of(path).open(target) as sink:
        for start in range(0, n_cells, rows):
            block = slice(start, min(start + rows, n_cells))
            reasons = tuple("bad" if np.isnan(row[0]) else "" for row in vectors[block])
            sink.write(Part(start, vectors[block], reasons, **parts(block)))
        sink.commit({"vector_id": "abc", "seed": 1, "key": "X_scGPT"})
    return vectors


def store(adata, path, version):
    with ad.settings.override(zarr_write_format=version), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of version 2
        adata.write_zarr(path)


def size(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_anndata_reads_names_vectors_and_facts(path, dtype):
    vectors = written(path, dtype=dtype)
    found = ad.read_zarr(path)
    assert found.X is None
    assert list(found.obs_names) == [f"cell-{i}" for i in range(N_CELLS)]
    assert list(found.var_names) == ["G1", "G2"]
    assert found.obsm["X_scGPT"].dtype == dtype
    assert found.obsm["X_scGPT"].tobytes() == vectors.astype(dtype).tobytes()
    assert found.uns["scgpt_infer"] == {"vector_id": "abc", "seed": 1, "key": "X_scGPT"}


def test_a_chunk_is_a_range_and_a_shard_many(path):
    vectors = written(path, n_cells=40_000, rows=1024, dim=256)
    array = zarr.open_group(path, mode="r")["obsm/X_scGPT"]
    assert array.chunks == (1024, 256)
    assert array.shards == (16 * 1024, 256)
    assert len([file for file in (path / "obsm" / "X_scGPT" / "c").rglob("*") if file.is_file()]) == 3
    assert array[:].tobytes() == vectors.tobytes()


def test_parts_of_any_size_give_the_same_bytes(path):
    written(path, rows=400)
    written(path.with_name("other.zarr"), rows=77)
    for file in path.rglob("*"):
        other = path.with_name("other.zarr") / file.relative_to(path)
        assert file.is_dir() or file.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("n_cells", [N_CELLS, 1000])
@pytest.mark.parametrize("version", [None, 2, 3])
def test_the_tables_of_the_source_are_kept(path, toy_adata, tmp_path, version, n_cells):
    toy_adata.obs["number"] = np.arange(N_CELLS)
    toy_adata.obs["text"] = [f"ü{i}" for i in range(N_CELLS)]
    toy_adata.obs["maybe"] = pd.array([None, *range(1, N_CELLS)], dtype="Int64")
    toy_adata.obs["yes"] = np.arange(N_CELLS) % 2 == 0
    toy_adata.var["chromosome"] = pd.Categorical(["1", "2"] * 35)
    source = tmp_path / f"cells{'.h5ad' if version is None else '.zarr'}"
    toy_adata.write_h5ad(source) if version is None else store(toy_adata, source, version)
    written(path, n_cells, source=source)
    found = ad.read_zarr(path)
    pd.testing.assert_frame_equal(found.obs, toy_adata.obs.iloc[:n_cells])
    pd.testing.assert_frame_equal(found.var, toy_adata.var)
    assert found.X is None
    assert list(found.obsm) == ["X_scGPT"]
    assert size(path) <= writer_of(path).bytes_needed(
        Target(path, n_cells, 8, "X_scGPT", lambda a, b: [], source=source)
    )


def test_a_table_that_a_source_gives_is_kept(path):
    table = pd.DataFrame(
        {"batch": ["a", None] * (N_CELLS // 2), "n": np.arange(N_CELLS)}, index=[f"c{i}" for i in range(N_CELLS)]
    )
    written(path, obs=lambda: table)
    found = ad.read_zarr(path).obs
    assert list(found.index) == list(table.index)
    assert list(found["batch"].astype(object).where(found["batch"].notna(), None)) == list(table["batch"])


def test_columns_go_into_obs_and_the_users_own_are_never_replaced(path, toy_h5ad):
    words = ("T", "B")
    columns = (Column("label", words), Column("confidence"))

    def parts(rows):
        codes = np.arange(rows.start, rows.stop, dtype=np.int32) % 3 - 1
        return {"columns": {"label": codes, "confidence": np.where(codes < 0, np.nan, 0.5).astype(np.float32)}}

    written(path, parts=parts, columns=columns, kind="cell_types", source=toy_h5ad)
    obs = ad.read_zarr(path).obs
    assert list(obs.columns) == ["kind", "scgpt_label", "scgpt_confidence"]
    assert list(obs["scgpt_label"].astype(object).where(obs["scgpt_label"].notna(), None)[:3]) == [None, "T", "B"]
    assert obs["scgpt_confidence"].isna().sum() == 367
    target = Target(path, N_CELLS, 8, "X", lambda a, b: [], columns=(Column("kind"),), prefix="", source=toy_h5ad)
    with pytest.raises(OutputError, match="obs already has kind"):
        writer_of(path).check(target)
    with pytest.raises(OutputError, match="obs already has kind"):
        written(path, parts=parts, columns=(Column("kind", words),), prefix="", source=toy_h5ad)


def test_matrices_and_tables_lie_beside_the_vectors(path):
    table = Table("atac", "predicted", 2, ("p1", "p2"))

    def parts(rows):
        n = rows.stop - rows.start
        return {"matrices": {"nonzero": np.full((n, 8), 0.5)}, "tables": {table.name: np.ones((n, 2), np.float32)}}

    genes = tuple(f"g{i}" for i in range(8))
    written(path, parts=parts, features=genes, matrices=("nonzero",), tables=(table,))
    found = ad.read_zarr(path)
    assert sorted(found.obsm) == ["X_scGPT", "X_scGPT_atac_predicted", "X_scGPT_nonzero"]
    assert list(found.uns["X_scGPT_genes"]) == list(genes)
    assert list(found.uns["X_scGPT_atac_predicted_names"]) == ["p1", "p2"]


@pytest.mark.parametrize("version", [2, 3])
def test_a_former_output_of_ours_is_replaced_and_nothing_else(path, version):
    written(path, n_cells=50)
    assert is_ours(path)
    written(path, n_cells=60)
    assert ad.read_zarr(path).n_obs == 60
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    store(ad.read_zarr(path), path, version)  # the user's own now
    with pytest.raises(OutputError, match="scgpt-infer did not write it"):
        written(path)
    assert ad.read_zarr(path).n_obs == 60


@pytest.mark.parametrize("name", ["X", "layers/mine", "uns/mine", "obsm/X_umap", "obs/mine"])
def test_what_a_user_has_added_to_a_store_of_ours_is_not_lost(path, name):
    written(path, n_cells=50)
    zarr.open_group(path, mode="r+").create_array(name, shape=(50,), dtype="float32")
    with pytest.raises(OutputError, match="did not write it as it is now"):
        written(path, n_cells=50)
    assert name in zarr.open_group(path, mode="r")


def test_any_other_folder_is_no_output_of_ours(tmp_path):
    assert not is_ours(tmp_path)
    (tmp_path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
    assert not is_ours(tmp_path)


def test_pickled_columns_are_not_copied(path, toy_adata, tmp_path):
    source = tmp_path / "cells.zarr"
    store(toy_adata, source, 2)
    (source / ".zmetadata").unlink()
    array = source / "obs" / "_index" / ".zarray"
    filters = [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}]
    array.write_text(json.dumps(json.loads(array.read_text()) | {"filters": filters, "compressor": None}))
    with pytest.raises(OutputError, match="/obs/_index is pickled"):
        written(path, source=source)
