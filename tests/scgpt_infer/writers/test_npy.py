import json

import numpy as np
import pytest

from scgpt_infer.writers import Part, Target, npy
from scgpt_infer.writers.sink import Column
from scgpt_runtime.errors import OutputError

NAMES = ["plain", "with space", "new\nline", "ünï", 'comma,quote"']


def write(path, vectors):
    target = Target(path, len(vectors), vectors.shape[1], "X_scGPT", lambda start, stop: NAMES[start:stop])
    with npy.open_npy(target) as sink:
        for start in range(0, len(vectors), 2):
            part = vectors[start : start + 2]
            sink.write(Part(start, part, tuple("bad" if np.isnan(row).any() else "" for row in part)))
        sink.commit({"vector_id": "abc", "seed": 1})
    return target


def test_the_array_comes_back_bit_for_bit(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    vectors[3] = np.nan
    target = write(tmp_path / "x.npy", vectors)
    read = np.load(tmp_path / "x.npy")
    assert read.dtype == np.float32
    assert read.tobytes() == vectors.tobytes()
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert written <= npy.bytes_needed(target)


def test_each_line_beside_it_is_the_name_of_a_row(tmp_path):
    write(tmp_path / "x.npy", np.zeros((5, 2), np.float32))
    lines = (tmp_path / "x.cells.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["plain", "with space", "new\\nline", "ünï", 'comma,quote"']


def test_the_record_says_which_vectors_they_are(tmp_path):
    write(tmp_path / "x.npy", np.zeros((5, 2), np.float32))
    assert json.loads((tmp_path / "x.npy.json").read_text()) == {"vector_id": "abc", "seed": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.cells.txt", "x.npy", "x.npy.json"]


def test_labels_have_no_place_in_it_and_nothing_is_left(tmp_path):
    target = Target(tmp_path / "x.npy", 5, 2, "X_scGPT", lambda start, stop: [], columns=(Column("label", ("B",)),))
    with pytest.raises(OutputError, match=r"is to hold label, and \.npy holds vectors alone"), npy.open_npy(target):
        pass
    assert not list(tmp_path.iterdir())
