"""Several files through the whole: vectors as of each alone, bad files listed, exit code 3."""

import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest

import scgpt_infer
from scgpt_infer import cli
from scgpt_infer.model import cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import open_cells
from scgpt_infer.readers.files import FILE
from scgpt_infer.readers.matrix import CsrRows
from scgpt_infer.readers.source import UNREAD
from scgpt_infer.spans import Shard
from scgpt_infer.summary import BadFile
from scgpt_infer.work import WorkOptions
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError, OutputError

EMPTY_CELL = 5


@pytest.fixture
def folder(toy_adata: ad.AnnData, tmp_path: Path) -> Path:
    """Three files with genes in three orders; the second is compressed and has a gene more."""
    found = tmp_path / "cells"
    found.mkdir()
    cells = toy_adata.copy()
    n = cells.n_obs // 3
    cells[:n].write_h5ad(found / "a.h5ad")
    cells[n : 2 * n, ::-1].write_h5ad(found / "b.h5ad", compression="gzip")
    cells[2 * n :, np.random.default_rng(0).permutation(cells.n_vars)].write_h5ad(found / "c.h5ad")
    return found


def test_vectors_are_those_of_each_file_alone(folder: Path, toy_adata: ad.AnnData, toy_model: Path, tmp_path: Path):
    summary = scgpt_infer.embed_file(folder, tmp_path / "all.npy", model=toy_model)
    told = json.loads(json.loads((tmp_path / "all.npy.json").read_text(encoding="utf-8"))["files"])
    assert list(told.items()) == [("a.h5ad", 366), ("b.h5ad", 366), ("c.h5ad", 368)]
    assert (summary.n_cells, summary.bad_files) == (toy_adata.n_obs, ())
    found = np.load(tmp_path / "all.npy")
    alone = []
    for name in "abc":
        scgpt_infer.embed_file(folder / f"{name}.h5ad", tmp_path / f"{name}.npy", model=toy_model)
        alone.append(np.load(tmp_path / f"{name}.npy"))
    np.testing.assert_allclose(found, np.concatenate(alone), atol=1e-5)
    expected = scgpt_infer.embed(toy_adata, model=toy_model).obsm["X_scGPT"]
    assert found.tobytes() == expected.tobytes()  # the same cells in the same ranges


def test_an_h5ad_output_has_the_columns_and_the_files_of_cells(folder: Path, toy_model: Path, tmp_path: Path):
    paths = sorted(folder.iterdir())
    summary = scgpt_infer.embed_file(paths, tmp_path / "all.h5ad", toy_model)
    found = ad.read_h5ad(tmp_path / "all.h5ad")
    assert found.n_obs == summary.n_cells
    assert list(dict.fromkeys(found.obs[FILE])) == ["a.h5ad", "b.h5ad", "c.h5ad"]
    assert found.uns["scgpt_infer"]["n_files"] == 3
    in_memory = scgpt_infer.embed(paths, model=toy_model)
    assert in_memory.obsm["X_scGPT"].tobytes() == found.obsm["X_scGPT"].tobytes()
    assert in_memory.obs[FILE].tolist() == found.obs[FILE].tolist()
    assert in_memory.X is not None


def test_bad_files_are_listed_and_the_exit_code_is_3(folder: Path, toy_model: Path, tmp_path: Path, capsys):
    (folder / "d.h5ad").write_bytes(b"no cells")
    words = ["embed", str(folder), "--model", str(toy_model), "-o", str(tmp_path / "all.npy"), "--json"]
    assert cli.run(words) == 3
    told = json.loads(capsys.readouterr().out)
    assert [Path(one["path"]).name for one in told["bad_files"]] == ["d.h5ad"]
    assert len(np.load(tmp_path / "all.npy")) == told["n_cells"]
    assert cli.run([*words[:-1], "--quiet"]) == 3
    assert "d.h5ad is not an HDF5 file" in capsys.readouterr().err
    assert cli.run([*words, "--strict"]) == 2
    assert "d.h5ad is not an HDF5 file" in capsys.readouterr().err
    files = [str(folder / f"{name}.h5ad") for name in "abc"]
    assert cli.run(["embed", *files, "--model", str(toy_model), "-o", str(tmp_path / "good.npy")]) == 0


def test_a_file_that_breaks_on_the_way_leaves_rows_with_reasons(
    folder: Path, toy_model: Path, tmp_path: Path, monkeypatch
):
    original = CsrRows.read

    def read(rows: CsrRows, start: int, stop: int) -> CellBlock:
        if "b.h5ad" in rows._where:
            raise CellsError("Rows are cut off.")
        return original(rows, start, stop)

    with cells_of(folder, EmbedOptions()) as source, scgpt_infer.Model.open(toy_model) as model:
        n = source.files[0].n_cells
        monkeypatch.setattr(CsrRows, "read", read)
        summary = model.job(source).into_file(tmp_path / "all.npy")
    missing = np.isnan(np.load(tmp_path / "all.npy")).all(axis=1)
    assert missing[n : 2 * n].all()
    assert np.flatnonzero(missing[:n]).tolist() == [EMPTY_CELL]
    assert not missing[2 * n :].any()
    assert summary.bad_files == (BadFile(str(folder / "b.h5ad"), "Rows are cut off."),)
    assert summary.reasons[f"{UNREAD} b.h5ad: Rows are cut off."] == n
    report = (tmp_path / "all.npy.bad.csv").read_text(encoding="utf-8").splitlines()
    assert len(report) == 1 + 1 + n
    assert "b.h5ad:0," in report[2]
    assert "b.h5ad: Rows are cut off." in report[2]


def test_a_stopped_job_over_files_goes_on_and_other_files_are_refused(folder: Path, toy_model: Path, tmp_path: Path):
    output = tmp_path / "all.npy"
    scgpt_infer.embed_file(folder, output, toy_model, work=WorkOptions(shard=Shard(0, 2)))
    (folder / "a.h5ad").rename(folder / "d.h5ad")
    with pytest.raises(OutputError, match=r"files .*d\.h5ad"):
        scgpt_infer.embed_file(folder, output, toy_model)
    (folder / "d.h5ad").rename(folder / "a.h5ad")
    for index in (0, 1):
        scgpt_infer.embed_file(folder, output, toy_model, work=WorkOptions(shard=Shard(index, 2)))


def test_an_output_among_the_files_is_refused(folder: Path, toy_model: Path):
    with pytest.raises(OutputError, match="is an input file"):
        scgpt_infer.embed_file(folder, folder / "a.h5ad", toy_model)
    with pytest.raises(OutputError, match=r"adds to one input file, and the input is 3 files"):
        scgpt_infer.embed_file(folder, None, toy_model, EmbedOptions(in_place=True))


def test_a_preview_of_several_files(folder: Path, toy_model: Path, tmp_path: Path):
    preview = scgpt_infer.api.preview(folder, tmp_path / "all.npy", toy_model)
    assert preview.n_cells > 1000


def test_workers_read_the_same_files(folder: Path, toy_model: Path, tmp_path: Path):
    (folder / "0.h5ad").write_bytes(b"no cells")
    alone = scgpt_infer.embed_file(folder, tmp_path / "alone.npy", toy_model)
    shared = scgpt_infer.embed_file(folder, tmp_path / "shared.npy", toy_model, work=WorkOptions(workers=2))
    assert shared.bad_files == alone.bad_files
    np.testing.assert_allclose(np.load(tmp_path / "shared.npy"), np.load(tmp_path / "alone.npy"), atol=1e-5)


def break_somewhere(path: Path) -> None:
    """Damage a chunk of the values that is not seen when the file is opened."""
    with h5py.File(path, "r+") as file:
        values = file["X/data"][...]
        del file["X/data"]
        data = file["X"].create_dataset("data", data=values, chunks=(40,), compression="gzip").id
        found = [data.get_chunk_info(number) for number in range(data.get_num_chunks())]
        chunks = [(chunk.byte_offset, chunk.size) for chunk in found]
    whole = path.read_bytes()
    for place, size in chunks[len(chunks) // 2 :]:
        path.write_bytes(whole[:place] + b"\xff" * size + whole[place + size :])
        try:
            open_cells(path).close()
        except CellsError:
            continue
        return
    raise AssertionError("every chunk is seen")


@pytest.fixture
def broken(folder: Path, toy_adata: ad.AnnData) -> Path:
    """The folder with a fourth file that is damaged in the middle, and a fifth that is none."""
    cells = ad.concat([toy_adata] * 4, index_unique="-", merge="same")
    cells.write_h5ad(folder / "d.h5ad")
    break_somewhere(folder / "d.h5ad")
    (folder / "e.h5ad").write_bytes(b"no cells")
    return folder


def told_of(output: Path) -> tuple[bytes, bytes, str]:
    """Bytes of an output and of its row report, and the hash of its parts."""
    record = json.loads(output.with_name(f"{output.name}.json").read_text(encoding="utf-8"))
    return output.read_bytes(), output.with_name(f"{output.name}.bad.csv").read_bytes(), record["parts_sha256"]


def test_workers_tell_of_a_damaged_file_what_one_process_tells(
    broken: Path, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["embed", "cells", "--model", str(toy_model), "--provider", "cpu", "--precision", "fp32", "--quiet"]
    assert cli.run([*words, "-o", "alone.npy"]) == 3
    assert cli.run([*words, "-o", "shared.npy", "--workers", "2"]) == 3
    assert told_of(tmp_path / "shared.npy") == told_of(tmp_path / "alone.npy")
    assert "d.h5ad: " in (tmp_path / "alone.npy.bad.csv").read_text(encoding="utf-8")
    (broken / "e.h5ad").unlink()
    capsys.readouterr()
    assert cli.run([*words, "-o", "strict.npy", "--workers", "2", "--strict"]) == 2
    assert "d.h5ad cannot be read" in capsys.readouterr().err


def test_a_job_that_goes_on_by_another_path_knows_its_damaged_files(
    broken: Path, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    scgpt_infer.embed_file("cells", "x.npy", toy_model, work=WorkOptions(shard=Shard(0, 2)))
    for number in (0, 1):
        found = scgpt_infer.embed_file(broken, "x.npy", toy_model, work=WorkOptions(shard=Shard(number, 2)))
        assert found.n_kept == (0 if number else found.n_cells)
        names = [Path(file.path).name for file in found.bad_files]
        assert names in (["e.h5ad"], ["e.h5ad", "d.h5ad"])
        assert (found.n_bad > 100) == ("d.h5ad" in names)


def test_workers_read_a_set_of_which_one_file_is_good(folder: Path, toy_model: Path, tmp_path: Path):
    for name in ("a.h5ad", "b.h5ad"):
        (folder / name).write_bytes(b"no cells")
    alone = scgpt_infer.embed_file(folder, tmp_path / "alone.npy", toy_model)
    shared = scgpt_infer.embed_file(folder, tmp_path / "shared.npy", toy_model, work=WorkOptions(workers=2))
    assert len(alone.bad_files) == 2
    assert shared.bad_files == alone.bad_files
    assert shared.n_cells == alone.n_cells


def test_files_are_batches_of_one_data_set(folder: Path, toy_model: Path, tmp_path: Path):
    """Of a model without statistics of batches, integrate gives what embed gives."""
    (folder / "d.h5ad").write_bytes(b"no cells")
    files = [str(path) for path in sorted(folder.iterdir())]
    words = ["--model", str(toy_model), "--quiet"]
    assert cli.run(["integrate", *files, *words, "-o", str(tmp_path / "i.npy")]) == 3
    assert cli.run(["embed", *files, *words, "-o", str(tmp_path / "e.npy")]) == 3
    assert np.load(tmp_path / "i.npy").tobytes() == np.load(tmp_path / "e.npy").tobytes()
