import os
import threading
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.writers import Part, Target, h5ad
from scgpt_runtime.errors import OutputError

DIM = 4
KEY = "X_scGPT"
RECORD = {"version": "0.1.0", "seed": 2**64 - 1, "match_fraction": 0.5}


def vectors(n_cells: int) -> np.ndarray:
    found = np.random.default_rng(n_cells).normal(size=(n_cells, DIM)).astype(np.float32)
    found[2] = np.nan
    return found


def target(source: Path, path: Path, n_cells: int = 1100, **changes) -> Target:
    settings = {"path": path, "n_cells": n_cells, "dim": DIM, "key": KEY, "names": lambda a, b: [], "source": source}
    return Target(**(settings | changes))


def write(wanted: Target, rows: int = 400) -> np.ndarray:
    """Write rows in parts; give what was written."""
    found = vectors(wanted.n_cells)
    with h5ad.open_h5ad(wanted) as sink:
        for start in range(0, wanted.n_cells, rows):
            part = found[start : start + rows]
            sink.write(Part(start, part, ("",) * len(part)))
        sink.commit(RECORD)
    return found


def contents(path: Path) -> dict[str, object]:
    """Every dataset's bytes and every attribute of a file, by name."""
    found: dict[str, object] = {}

    def add(name, element):
        found.update({f"{name}@{key}": np.asarray(value).tolist() for key, value in element.attrs.items()})
        if isinstance(element, h5py.Dataset):
            found[name] = np.asarray(element[()]).tolist()

    with h5py.File(path) as file:
        file.visititems(add)
        add("", file)
    return found


def ours(name: str) -> bool:
    return name.startswith((f"obsm/{KEY}", "uns/scgpt_infer"))


def test_everything_of_the_input_is_in_the_output_and_nothing_else_is_added(toy_h5ad, tmp_path):
    before = toy_h5ad.read_bytes()
    write(target(toy_h5ad, tmp_path / "out.h5ad"))
    after = {name: value for name, value in contents(tmp_path / "out.h5ad").items() if not ours(name)}
    assert after == contents(toy_h5ad)
    assert toy_h5ad.read_bytes() == before


def test_anndata_reads_the_embedding_and_the_facts(toy_h5ad, tmp_path):
    written = write(target(toy_h5ad, tmp_path / "out.h5ad"))
    read = ad.read_h5ad(tmp_path / "out.h5ad")
    assert read.obsm[KEY].dtype == np.float32
    np.testing.assert_array_equal(read.obsm[KEY], written)
    assert dict(read.uns["scgpt_infer"]) == RECORD
    assert read.raw.shape == read.shape


@pytest.mark.parametrize(
    "old", [np.zeros((1100, DIM), np.float32), np.zeros((1100, 9)), sparse.csr_matrix((1100, 7))], ids=str
)
def test_an_older_embedding_under_the_key_is_replaced(toy_adata, tmp_path, old):
    toy_adata.obsm[KEY] = old
    toy_adata.uns["scgpt_infer"] = {"version": "0.0.1", "gone": 1}
    toy_adata.write_h5ad(tmp_path / "in.h5ad")
    written = write(target(tmp_path / "in.h5ad", tmp_path / "out.h5ad"))
    read = ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(read.obsm[KEY], written)
    assert "gone" not in read.uns["scgpt_infer"]


def test_files_without_obsm_and_uns_get_them(toy_h5ad, tmp_path):
    with h5py.File(toy_h5ad, "r+") as file:
        del file["obsm"], file["uns"]
    written = write(target(toy_h5ad, tmp_path / "out.h5ad"))
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "out.h5ad").obsm[KEY], written)


def test_in_place_adds_to_the_input_and_keeps_its_mode(toy_h5ad):
    toy_h5ad.chmod(0o640)
    before = contents(toy_h5ad)
    write(target(toy_h5ad, toy_h5ad))
    assert {name: value for name, value in contents(toy_h5ad).items() if not ours(name)} == before
    assert toy_h5ad.stat().st_mode & 0o777 == 0o640
    assert os.listdir(toy_h5ad.parent) == [toy_h5ad.name]


def test_in_place_again_and_again_does_not_let_the_file_grow(toy_h5ad):
    write(target(toy_h5ad, toy_h5ad))
    once = toy_h5ad.stat().st_size
    for _ in range(3):
        write(target(toy_h5ad, toy_h5ad))
    assert toy_h5ad.stat().st_size < once + 1100 * DIM * 4


def test_in_place_refuses_a_file_that_another_program_has_changed(toy_h5ad):
    def change_and_commit(sink):
        with h5py.File(toy_h5ad, "r+") as file:
            file["uns"].attrs["theirs"] = 1
        os.utime(toy_h5ad, ns=(1, 1))
        sink.commit(RECORD)

    with h5ad.open_h5ad(target(toy_h5ad, toy_h5ad)) as sink, pytest.raises(OutputError, match="by another program"):
        change_and_commit(sink)
    with h5py.File(toy_h5ad) as file:
        assert file["uns"].attrs["theirs"] == 1
    assert os.listdir(toy_h5ad.parent) == [toy_h5ad.name]


def test_in_place_refuses_a_change_that_comes_while_the_result_is_closed(toy_h5ad, monkeypatch):
    fsync = os.fsync

    def change_meanwhile(handle):
        with h5py.File(toy_h5ad, "r+") as file:
            file["uns"].attrs["theirs"] = 1
        os.utime(toy_h5ad, ns=(1, 1))
        fsync(handle)

    with h5ad.open_h5ad(target(toy_h5ad, toy_h5ad)) as sink:
        monkeypatch.setattr(os, "fsync", change_meanwhile)
        with pytest.raises(OutputError, match="by another program"):
            sink.commit(RECORD)
    with h5py.File(toy_h5ad) as file:
        assert file["uns"].attrs["theirs"] == 1


def test_of_two_jobs_in_place_that_end_together_one_is_refused_and_none_is_lost(toy_h5ad, monkeypatch):
    replace = os.replace
    ends: dict[str, BaseException | None] = {}

    def job(key):
        try:
            with h5ad.open_h5ad(target(toy_h5ad, toy_h5ad, key=key)) as sink:
                both_open.wait(20)
                if key == "X_scGPT_second":
                    assert second_may.wait(20)
                sink.commit(RECORD)
            ends[key] = None
        except OutputError as error:
            ends[key] = error

    def slow_replace(temporary, final):
        second_may.set()  # the first has checked and not yet renamed
        time.sleep(0.5)
        replace(temporary, final)

    both_open, second_may = threading.Barrier(2), threading.Event()
    monkeypatch.setattr(os, "replace", slow_replace)
    threads = [threading.Thread(target=job, args=(key,)) for key in ("X_scGPT_first", "X_scGPT_second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends["X_scGPT_first"] is None
    assert isinstance(ends["X_scGPT_second"], OutputError)
    assert "X_scGPT_first" in ad.read_h5ad(toy_h5ad).obsm
    assert os.listdir(toy_h5ad.parent) == [toy_h5ad.name]


def test_obs_only_leaves_the_matrices_out_and_keeps_the_rest(toy_h5ad, tmp_path):
    written = write(target(toy_h5ad, tmp_path / "out.h5ad", obs_only=True))
    full, read = ad.read_h5ad(toy_h5ad), ad.read_h5ad(tmp_path / "out.h5ad")
    assert read.X is None
    assert not read.layers
    assert not read.obsp
    assert read.raw is None
    pd.testing.assert_frame_equal(read.obs, full.obs)
    pd.testing.assert_frame_equal(read.var, full.var)
    np.testing.assert_array_equal(read.obsm["X_pca"], full.obsm["X_pca"])
    np.testing.assert_array_equal(read.uns["note"]["y"], full.uns["note"]["y"])
    np.testing.assert_array_equal(read.obsm[KEY], written)


@pytest.mark.parametrize("obs_only", [False, True])
def test_fewer_cells_give_the_first_rows_of_everything(toy_h5ad, tmp_path, obs_only):
    written = write(target(toy_h5ad, tmp_path / "out.h5ad", n_cells=10, obs_only=obs_only))
    read, expected = ad.read_h5ad(tmp_path / "out.h5ad"), ad.read_h5ad(toy_h5ad)[:10].copy()
    pd.testing.assert_frame_equal(read.obs, expected.obs)
    pd.testing.assert_frame_equal(read.obsm["frame"], expected.obsm["frame"])
    np.testing.assert_array_equal(read.obsm["X_pca"], expected.obsm["X_pca"])
    np.testing.assert_array_equal(read.varm["loadings"], expected.varm["loadings"])
    np.testing.assert_array_equal(read.obsm[KEY], written)
    if obs_only:
        assert read.X is None
        return
    np.testing.assert_array_equal(read.X.toarray(), expected.X.toarray())
    np.testing.assert_array_equal(read.raw.X.toarray(), expected.raw.X.toarray())
    np.testing.assert_array_equal(read.layers["dense"], expected.layers["dense"])
    np.testing.assert_array_equal(read.layers["columns"].toarray(), expected.layers["columns"].toarray())
    np.testing.assert_array_equal(read.obsp["graph"].toarray(), expected.obsp["graph"].toarray())


@pytest.mark.parametrize("kind", ["string", "category"])
def test_fewer_cells_whose_names_are_stored_as_a_group(toy_h5ad, tmp_path, kind):
    from anndata.io import write_elem

    names = ad.read_h5ad(toy_h5ad).obs_names
    with h5py.File(toy_h5ad, "r+") as file, ad.settings.override(allow_write_nullable_strings=True):
        del file["obs/_index"], file["obsm/frame"]  # whose index would be of another type
        write_elem(file["obs"], "_index", pd.array(names, dtype=kind))
    write(target(toy_h5ad, tmp_path / "out.h5ad", n_cells=10))
    assert ad.read_h5ad(tmp_path / "out.h5ad").obs_names.tolist() == names[:10].tolist()


def test_cells_from_elsewhere_get_names_genes_and_no_matrix(tmp_path):
    def names(start, stop):
        return [f"cell-{i}" for i in range(start, stop)]

    written = write(target(None, tmp_path / "out.h5ad", n_cells=7, names=names, genes=("A", "B")))
    read = ad.read_h5ad(tmp_path / "out.h5ad")
    assert read.X is None
    assert list(read.obs_names) == names(0, 7)
    assert list(read.var_names) == ["A", "B"]
    np.testing.assert_array_equal(read.obsm[KEY], written)


def test_a_file_of_old_anndata_is_refused_with_the_way_out(toy_h5ad, tmp_path):
    with h5py.File(toy_h5ad, "r+") as file:
        del file["obsm"]
        file["obsm"] = np.zeros(1100, [("X_pca", "f4", (2,))])
    with pytest.raises(OutputError, match=r"before 0\.7"):
        write(target(toy_h5ad, tmp_path / "out.h5ad"))
    assert not (tmp_path / "out.h5ad").exists()


def test_room_is_asked_for_the_copy_and_the_embedding(toy_h5ad, tmp_path):
    size = toy_h5ad.stat().st_size
    whole = h5ad.bytes_needed(target(toy_h5ad, tmp_path / "out.h5ad"))
    without = h5ad.bytes_needed(target(toy_h5ad, tmp_path / "out.h5ad", obs_only=True))
    write(target(toy_h5ad, tmp_path / "out.h5ad"))
    assert (tmp_path / "out.h5ad").stat().st_size <= whole <= size + 1100 * DIM * 4 + 100_000
    write(target(toy_h5ad, tmp_path / "small.h5ad", obs_only=True))
    assert (tmp_path / "small.h5ad").stat().st_size <= without < whole
