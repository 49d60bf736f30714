"""Unfinished files of one output go, and no others."""

import numpy as np
import pytest

from scgpt_infer.writers import Part, Target, writer_of
from scgpt_infer.writers.leftovers import sweep
from scgpt_infer.writers.row_report import RowReport


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".h5ad", ".jsonl", ".parquet", ".zarr", ".dataset"])
def test_what_a_killed_run_left_goes_and_nothing_else(tmp_path, suffix):
    target = Target(tmp_path / f"x{suffix}", 2, 2, "X_scGPT", lambda start, stop: ["a", "b"][start:stop])
    others = {tmp_path / name for name in (f".y{suffix}.abcdefgh.part", f"x{suffix}", f".x{suffix}.note", ".x.part")}
    for path in others:
        path.write_text("kept")
    if suffix in (".zarr", ".dataset"):
        (tmp_path / f"x{suffix}").unlink()
        others.remove(tmp_path / f"x{suffix}")
    with writer_of(target.path).open(target) as sink, RowReport.beside(target.path):
        sink.write(Part(0, np.ones((1, 2), np.float32), ("",)))
        left = {path: path.is_dir() for path in set(tmp_path.iterdir()) - others}
    assert len(left) >= 2
    for path, is_folder in left.items():  # as if none had been there to remove them
        path.mkdir() if is_folder else path.write_text("unfinished")
    sweep(target.path)
    assert set(tmp_path.iterdir()) == others


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_hidden_files_and_folders_of_a_user_stay(tmp_path, suffix):
    for name in ("20240101", "mybackup", "projects.part.bak", "ABCDEFGH.part"):
        (tmp_path / f".x{suffix}.{name}").write_text("mine")
    for name in ("projects", "abcdefgh.part", "abcdefgh.stage"):
        (tmp_path / f".x{suffix}.{name}").mkdir()
        (tmp_path / f".x{suffix}.{name}" / "notes").write_text("mine")
    there = set(tmp_path.rglob("*"))
    sweep(tmp_path / f"x{suffix}")
    assert set(tmp_path.rglob("*")) == there


def test_a_former_output_that_was_set_aside_comes_back(tmp_path):
    """Between the two renames of a folder that takes the place of another, the old one has no name of its own."""
    output, above = tmp_path / "x.zarr", tmp_path / ".x.zarr.abcdefgh.stage"
    for name in ("whole", "former"):
        (above / name).mkdir(parents=True)
        (above / name / "zarr.json").write_text(name)
    sweep(output)
    assert (output / "zarr.json").read_text() == "former"
    assert list(tmp_path.iterdir()) == [output]
    (above / "former").mkdir(parents=True)  # and when the new one had its name
    sweep(output)
    assert (output / "zarr.json").read_text() == "former"
    assert list(tmp_path.iterdir()) == [output]
