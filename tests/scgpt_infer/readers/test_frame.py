"""Columns of obs and var are read as text whatever encoding they have."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

from scgpt_infer.readers.frame import Frame
from scgpt_runtime.errors import CellsError


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": ["a", "b", "é", ""],
            "category": pd.Categorical(["x", None, "y", "x"]),
            "number": [1, 2, 3, 4],
            "nullable": pd.array([1, None, 3, 4], "Int64"),
            "flag": [True, False, True, True],
        },
        index=["r0", "r1", "r2", "r3"],
    )


@pytest.fixture
def stored(table: pd.DataFrame, tmp_path: Path) -> h5py.File:
    cells = ad.AnnData(np.ones((4, 1), np.float32), obs=table)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        yield file


def test_columns_of_today(stored: h5py.File):
    frame = Frame(stored["obs"], "obs")
    assert frame.n_rows == 4
    assert frame.columns == ["text", "category", "number", "nullable", "flag"]
    assert frame.column("index") == ["r0", "r1", "r2", "r3"]
    assert frame.column("text", 1, 3) == ["b", "é"]
    assert frame.column("category") == ["x", "", "y", "x"]
    assert frame.column("category", 2) == ["y", "x"]
    assert frame.column("number", 0, 2) == ["1", "2"]
    assert frame.column("nullable") == ["1", "", "3", "4"]
    assert frame.column("flag") == ["True", "False", "True", "True"]


def test_nullable_text(stored: h5py.File):
    group = stored["obs"].create_group("symbols")
    group.attrs["encoding-type"] = "nullable-string-array"
    group["values"] = ["A", "", "C", "D"]
    group["mask"] = [False, True, False, False]
    assert Frame(stored["obs"], "obs").column("symbols", 0, 3) == ["A", "", "C"]


def test_shared_categories_of_anndata_0_7(stored: h5py.File):
    group = stored["obs"]
    group["__categories/cluster"] = ["first", "second"]
    group["cluster"] = np.array([1, 0, -1, 1], np.int8)
    group["cluster"].attrs["categories"] = group["__categories/cluster"].ref
    frame = Frame(group, "obs")
    assert "__categories" not in frame.columns
    assert frame.column("cluster", 0, 3) == ["second", "first", ""]


def test_an_index_that_is_a_named_or_categorical_column(stored: h5py.File):
    stored["obs"].attrs["_index"] = "category"
    frame = Frame(stored["obs"], "obs")
    assert (frame.n_rows, frame.column("index")) == (4, ["x", "", "y", "x"])


def test_a_damaged_column_is_named(stored: h5py.File):
    del stored["obs/category/codes"]
    stored["obs/category/codes"] = np.array([0, 9, 1, 0], np.int8)
    with pytest.raises(CellsError, match="Column 'category' of obs cannot be read"):
        Frame(stored["obs"], "obs").column("category")


def test_an_array_is_no_table(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["obs"] = np.arange(3)
        with pytest.raises(CellsError, match="is no table"):
            Frame(file["obs"], "obs")


class Watched:
    """Categories that tell how many of them were read."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.dtype, self.shape, self.attrs = np.array(words, object), np.dtype(object), (len(words),), {}
        self.n_read = 0

    def __getitem__(self, rows: slice) -> np.ndarray:
        found = self.words[rows]
        self.n_read += len(found)
        return found


def test_slices_of_a_categorical_index_read_what_they_need_of_its_categories(stored: h5py.File):
    n = 200_000
    order = np.random.default_rng(0).permutation(n).astype(np.int32)
    categories = Watched([f"cell-{i:06}" for i in range(n)])
    sorted_cells = np.concatenate([np.arange(n - 2, dtype=np.int32), [-1, n - 1]])
    for codes, most in ((sorted_cells, 1024), (order, n // 2)):
        frame = Frame(stored["obs"], "obs")
        categories.n_read = 0
        assert frame._categorical("index", codes[-1024:-3], categories) == [f"cell-{i:06}" for i in codes[-1024:-3]]
        assert categories.n_read <= most
        assert not frame._categories
    assert frame._categorical("index", sorted_cells[-3:], categories) == ["cell-199997", "", "cell-199999"]
    assert frame._categorical("index", np.array([-1, -1]), categories) == ["", ""]


def test_the_categories_of_a_column_are_read_once_for_all_slices(stored: h5py.File):
    words = Watched(["T", "B", "NK"])
    frame = Frame(stored["obs"], "obs")
    codes = np.array([0, 1, -1, 2, 1], np.int8)
    assert [frame._categorical("type", codes[i : i + 2], words) for i in (0, 2, 4)] == [["T", "B"], ["", "NK"], ["B"]]
    assert words.n_read == 3
