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
