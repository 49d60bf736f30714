"""Shards and interrupted runs become the output that one undisturbed run makes, and nothing that is not whole."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.dataset as pds
import pytest
from scipy import sparse

from scgpt_infer import EmbedOptions
from scgpt_infer.api import embed_file
from scgpt_infer.cli import run
from scgpt_infer.ledger.origin import Origin
from scgpt_infer.ledger.plan import PLAN
from scgpt_infer.merging import MergeOptions, merge, target
from scgpt_infer.spans import Shard
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import CellsError, OutputError

N_CELLS = 4 * 1024 + 100  # five ranges
CPU = EmbedOptions(provider="cpu", threads=1)
EMPTY = (5, 3000)


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.5, (N_CELLS, 70)).astype(np.float32)
    dense[list(EMPTY)] = 0
    obs = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * (N_CELLS // 2))}, [f"cell-{i}" for i in range(N_CELLS)])
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    ad.AnnData(sparse.csr_matrix(dense), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(70)])).write_h5ad(path)
    return path


def embed(cells, output, model, shard=None, options=CPU):
    output.parent.mkdir(parents=True, exist_ok=True)
    embed_file(cells, output, model, options, work=WorkOptions(shard=Shard.parse(shard) if shard else None))
    return output.with_name(f"{output.name}.parts")


@pytest.fixture(scope="module")
def made(cells, toy_model, tmp_path_factory) -> Path:
    """The whole, and the parts of three shards, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("made")
    embed(cells, folder / "whole.npy", toy_model)
    for index in range(3):
        embed(cells, folder / str(index) / "x.npy", toy_model, f"{index}/3")
    return folder


@pytest.fixture
def shards(made, tmp_path) -> list[Path]:
    """Copies, to be spoilt."""
    return [Path(shutil.copytree(made / str(i) / "x.npy.parts", tmp_path / f"{i}.parts")) for i in range(3)]


def replan(folder, **facts):
    told = json.loads((folder / PLAN).read_text())
    told["facts"] |= facts
    (folder / PLAN).write_text(json.dumps(told))


def replan_origin(folder, *cells):
    told = json.loads((folder / PLAN).read_text())
    told["origin"] |= asdict(Origin.of(cells))
    (folder / PLAN).write_text(json.dumps(told))


def test_shards_merged_equal_the_whole_bit_for_bit(made, shards, tmp_path):
    merged = merge(shards, tmp_path / "whole.npy")
    for name in ("whole.npy", "whole.cells.txt", "whole.npy.bad.csv", "whole.npy.json"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes(), name
    assert merged.n_bad == len(EMPTY)
    assert [cell.row for cell in merged.bad] == list(EMPTY)
    assert all(folder.is_dir() for folder in shards)


def test_shards_in_one_folder_are_one_folder(cells, toy_model, made, tmp_path):
    for index in (2, 0, 1):
        folder = embed(cells, tmp_path / "x.npy", toy_model, f"{index}/3")
    merge([folder], tmp_path / "x.npy")
    assert (tmp_path / "x.npy").read_bytes() == (made / "whole.npy").read_bytes()


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_an_output_that_keeps_obs_finds_the_cells_or_is_told(cells, made, shards, tmp_path, suffix):
    output = tmp_path / f"x{suffix}"
    merge(shards, output)
    found = ad.read_h5ad(output) if suffix == ".h5ad" else ad.read_zarr(output)
    assert found.obsm["X_scGPT"].tobytes() == np.load(made / "whole.npy").tobytes()
    assert list(found.obs["kind"][:2]) == ["a", "b"]
    for folder in shards:
        told = json.loads((folder / PLAN).read_text())
        told["origin"]["paths"] = [str(tmp_path / "gone.h5ad")]
        (folder / PLAN).write_text(json.dumps(told))
    with pytest.raises(CellsError, match=r"gone\.h5ad is not there.*--cells"):
        merge(shards, output)
    merge(shards, output, MergeOptions(cells=cells))
    other = tmp_path / "other.h5ad"
    renamed = ad.read_h5ad(cells)
    renamed.obs_names = [f"other-{i}" for i in range(N_CELLS)]
    renamed.write_h5ad(other)
    for folder in shards:
        replan_origin(folder, other)
    with pytest.raises(OutputError, match=r"Row 0 of the parts is the cell 'cell-0', and .* is 'other-0'"):
        merge(shards, output, MergeOptions(cells=other))
    ad.read_h5ad(cells)[:100].copy().write_h5ad(other)
    with pytest.raises(CellsError, match="is not what was embedded"):
        merge(shards, output, MergeOptions(cells=other))


def test_any_format_can_be_written_without_the_cells(made, shards, tmp_path):
    merge(shards, tmp_path / "x.dataset")
    table = pds.dataset(tmp_path / "x.dataset").to_table()
    assert table["cell"].to_pylist() == [f"cell-{i}" for i in range(N_CELLS)]
    assert np.stack(table["embedding"].to_numpy()).tobytes() == np.load(made / "whole.npy").tobytes()


def test_missing_rows_and_the_shard_to_run_again_are_named(shards, tmp_path):
    with pytest.raises(OutputError, match=r"Rows 1,024 to 3,071 of 4,196 are in none.*--shard 1/3.*--allow-missing"):
        merge([shards[0], shards[2]], tmp_path / "x.npy")
    (shards[2] / "part-000000003072.npz").unlink()
    with pytest.raises(OutputError, match=r"Rows 3,072 to 4,095 of .*--shard 2/3"):
        merge(shards, tmp_path / "x.npy")
    assert not list(tmp_path.glob("x.npy*"))


def test_missing_rows_may_be_allowed_and_are_told(made, shards, tmp_path):
    merged = merge([shards[0], shards[2]], tmp_path / "x.npy", MergeOptions(allow_missing=True))
    vectors, whole = np.load(tmp_path / "x.npy"), np.load(made / "whole.npy")
    assert np.isnan(vectors[1024:3072]).all()
    assert vectors[3072:].tobytes() == whole[3072:].tobytes()
    assert merged.n_missing == 2048
    assert (tmp_path / "x.npy.bad.csv").read_text().splitlines()[2] == "1024,row 1024,not done"
    record = json.loads((tmp_path / "x.npy.json").read_text())
    assert record["incomplete"] == "Rows 1,024 to 3,071 of 4,196 were not done"
    assert record["n_without_embedding"] == 2049


def test_rows_that_are_double_are_taken_once_if_they_are_alike_and_refused_if_not(made, shards, tmp_path):
    again = Path(shutil.copytree(shards[1], tmp_path / "again.parts"))
    assert merge([*shards, again], tmp_path / "x.npy").n_twice == 2048
    assert (tmp_path / "x.npy").read_bytes() == (made / "whole.npy").read_bytes()
    ledger = again / "ledger.1-of-3.jsonl"
    ledger.write_text(ledger.read_text().replace('"sha256":"', '"sha256":"0', 1))
    with pytest.raises(
        OutputError, match=r"Rows 1,024 to 2,047 are in .*1\.parts and in .*again\.parts, and not alike"
    ):
        merge([*shards, again], tmp_path / "x.npy")
    with pytest.raises(OutputError, match="named twice"):
        merge([*shards, shards[0]], tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("fact", "value"), [("vector_id", "other"), ("provider", "cuda"), ("precision", "bf16"), ("seed", 1234)]
)
def test_mixed_parts_are_refused_unless_they_are_allowed_and_told(shards, tmp_path, fact, value):
    was = json.loads((shards[0] / PLAN).read_text())["facts"][fact]
    replan(shards[2], **{fact: value})
    with pytest.raises(OutputError, match=rf"{fact} .* \| {value}.*--allow-mixed"):
        merge(shards, tmp_path / "x.npy")
    merged = merge(shards, tmp_path / "x.npy", MergeOptions(allow_mixed=True))
    assert merged.mixed == {fact: f"{was} | {value}"}
    record = json.loads((tmp_path / "x.npy.json").read_text())
    assert record[fact] == f"{was} | {value}"
    assert record["mixed"] == f"{fact} {was} | {value}"


@pytest.mark.parametrize(("name", "value"), [("n_cells", 77), ("dim", 3), ("dtype", "float16"), ("key", "X_other")])
def test_parts_of_other_work_are_refused_always(shards, tmp_path, name, value):
    told = json.loads((shards[1] / PLAN).read_text())
    (shards[1] / PLAN).write_text(json.dumps({**told, name: value}))
    with pytest.raises(OutputError, match=rf"1\.parts holds the parts of other work.*{name} {value} instead of"):
        merge(shards, tmp_path / "x.npy", MergeOptions(allow_mixed=True))


def test_other_cells_are_other_work_and_a_younger_copy_is_not(shards, tmp_path):
    told = json.loads((shards[1] / PLAN).read_text())
    told["origin"] |= {"modified": 1, "names": ["copy.h5ad"]}
    (shards[1] / PLAN).write_text(json.dumps(told))
    found = merge(shards, tmp_path / "x.npy")
    assert "compared by their sizes and by samples" in found.notes[0]
    assert json.loads((tmp_path / "x.npy.json").read_text())["inputs"].startswith("2 by the times")
    told["origin"]["sample"] = "0"
    (shards[1] / PLAN).write_text(json.dumps(told))
    with pytest.raises(OutputError, match="content of the input"):
        merge(shards, tmp_path / "x.npy")


def test_a_damaged_part_is_found_and_nothing_is_left(shards, tmp_path):
    part = shards[0] / "part-000000000000.npz"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(OutputError, match=r"part-000000000000\.npz is not the part that was written"):
        merge(shards, tmp_path / "x.npy")
    assert not list(tmp_path.glob("*x.npy*"))


def test_a_full_disk_is_told_before_anything_is_written(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(OutputError, match="on the disk and 1"):
        merge(shards, tmp_path / "x.npy")


def test_the_cells_themselves_and_folders_of_anything_else_are_refused(cells, shards, tmp_path):
    with pytest.raises(OutputError, match="holds the cells that were embedded"):
        merge(shards, cells)
    with pytest.raises(OutputError, match=r"has no plan\.json"):
        merge([tmp_path], tmp_path / "x.npy")
    with pytest.raises(OutputError, match=r"cells\.h5ad is a file, so it is no folder of parts"):
        merge([cells], tmp_path / "x.npy")


def test_the_command_merges_and_reports(shards, tmp_path, capsys):
    words = ["merge", *map(str, shards), "-o", str(tmp_path / "x.npy")]
    assert run(words) == 0
    told = capsys.readouterr().out
    assert told.startswith("4,196 cells of 3 folders merged")
    assert "row 3000 (cell-3000): " in told
    assert run([*words, "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["n_embedded"] == N_CELLS - 2
    assert run(["merge", str(shards[0]), "-o", str(tmp_path / "y.npy")]) == 2
    assert "--shard 1/3, 2/3" in capsys.readouterr().err
    assert run(["merge", str(shards[0]), "-o", str(tmp_path / "y.npy"), "--allow-missing"]) == 3
    capsys.readouterr()
    for folder in shards:
        replan(folder, n_bad_files=1)
    assert run(words) == 3
    assert "1 of the set could not be read" in capsys.readouterr().out


def test_other_machines_are_told_and_never_refused(shards, tmp_path, capsys):
    told = json.loads((shards[1] / PLAN).read_text())
    told["made_on"] |= {"processor": "another one", "onnxruntime": "0.1"}
    (shards[1] / PLAN).write_text(json.dumps(told))
    assert run(["merge", *map(str, shards), "-o", str(tmp_path / "x.npy"), "-q"]) == 0
    said = capsys.readouterr().err
    assert "different machines or versions" in said
    assert " | another one" in said
    assert " | 0.1" in said


def test_parts_of_chosen_cells_go_into_no_output_that_keeps_all_of_them(cells, shards, tmp_path):
    for folder in shards:
        told = json.loads((folder / PLAN).read_text())
        told["asked"]["rows"] = "sha256 of some"
        (folder / PLAN).write_text(json.dumps(told))
    for suffix in (".h5ad", ".zarr", ".census"):
        with pytest.raises(OutputError, match="parts are of chosen cells"):
            merge(shards, tmp_path / f"x{suffix}", MergeOptions(cells=cells))


def test_an_address_is_not_looked_for_on_the_disk(shards, tmp_path, monkeypatch):
    opened = []

    def none_here(cells, plan):
        opened.append(cells)
        raise CellsError("no network")

    monkeypatch.setattr(target, "_opened", none_here)
    for folder in shards:
        replan_origin(folder, "census:2025-01-30")
    for where in (None, "census:2025-01-30"):
        with pytest.raises(CellsError, match="no network"):
            merge(shards, tmp_path / "x.h5ad", MergeOptions(cells=where))
    assert list(map(str, opened)) == ["census:2025-01-30"] * 2
    with pytest.raises(CellsError, match="is not what was embedded"):
        merge(shards, tmp_path / "x.h5ad", MergeOptions(cells="census:2024-07-01"))


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr", ".census"])
def test_files_that_are_one_data_set_are_found_again(cells, toy_model, tmp_path, suffix):
    whole = ad.read_h5ad(cells)
    whole.obs["soma_joinid"] = np.arange(N_CELLS, dtype=np.int64)
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    whole[:2000].copy().write_h5ad(paths[0])
    whole[2000:].copy().write_h5ad(paths[1])
    output = tmp_path / f"x{suffix}"
    for index in range(2):
        work = WorkOptions(shard=Shard(index, 2))
        embed_file(paths, output, toy_model, CPU, work=work)
    embed_file(paths, tmp_path / f"whole{suffix}", toy_model, CPU)
    folder = tmp_path / f"x{suffix}.parts"
    merge([folder], output)
    moved = tmp_path / "moved"
    moved.mkdir()
    paths = [path.rename(moved / path.name) for path in paths]
    for named in (moved, paths):
        merge([folder], output, MergeOptions(cells=named))
    words = ["merge", str(folder), "-o", str(output), "-q"]
    assert run([*words, *(word for path in paths for word in ("--cells", str(path)))]) == 0
    if suffix == ".census":
        for name in ("embeddings.npy", "joinids.npy"):
            assert (output / name).read_bytes() == (tmp_path / "whole.census" / name).read_bytes()
        return
    read = ad.read_h5ad if suffix == ".h5ad" else ad.read_zarr
    found, expected = read(output), read(tmp_path / f"whole{suffix}")
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.var, expected.var)
    assert found.obsm["X_scGPT"].tobytes() == expected.obsm["X_scGPT"].tobytes()
