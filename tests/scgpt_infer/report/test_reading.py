"""Embedded files are read without their counts, and what is wrong with one is said."""

import h5py
import numpy as np
import pandas as pd
import pytest

from scgpt_infer.report import reading
from scgpt_infer.report.reading import EmbeddedFile
from scgpt_runtime.errors import CellsError


def test_rows_come_in_order_whatever_the_range_that_is_read(write, monkeypatch):
    path = write(n_cells=30, without=(4, 29))
    rows = np.array([0, 3, 11, 12, 28])
    with EmbeddedFile(path) as file:
        whole = file.vectors("X_scGPT", np.arange(30))
        monkeypatch.setattr(reading, "RANGE_ROWS", 7)
        assert np.flatnonzero(~file.has_vector("X_scGPT")).tolist() == [4, 29]
        np.testing.assert_array_equal(file.vectors("X_scGPT", rows), whole[rows])
        assert file.names(rows) == [f"cell-{row}" for row in rows]


def test_missing_values_of_a_column_are_empty(write):
    path = write(n_cells=4, without=(1,), obs={"dose": [1.5, 2, np.nan, 4]})
    with EmbeddedFile(path) as file:
        assert file.column("scgpt_label") == ["T cell", "", "unknown", "T cell"]
        assert file.column("dose") == ["1.5", "2.0", "", "4.0"]


def test_the_record_names_the_embedding_unless_the_user_does(write):
    with EmbeddedFile(write(record={"key": "X_mine"})) as file:
        assert file.key() == "X_mine"
        assert file.key("X_other") == "X_other"
    with EmbeddedFile(write(record=None)) as file:
        assert file.record == {}
        assert file.key() == "X_scGPT"


def test_what_is_not_there_is_named_with_what_is(write):
    with EmbeddedFile(write(obs={"batch": "b"})) as file:
        with pytest.raises(CellsError, match=r"no column 'sample'; it has scgpt_label, scgpt_confidence, batch"):
            file.column("sample")
        with pytest.raises(CellsError, match=r"no embedding 'X_umap' in obsm, which holds X_scGPT"):
            file.has_vector("X_umap")


def test_a_table_is_no_embedding(write):
    path = write()
    table = pd.DataFrame({"a": np.zeros(60)}, index=[f"cell-{row}" for row in range(60)])
    with EmbeddedFile(write(obsm={"table": table})) as file, pytest.raises(CellsError, match="no array of numbers"):
        file.has_vector("table")
    with h5py.File(path, "r+") as raw:
        raw["obsm/short"] = np.zeros((59, 2))
    with EmbeddedFile(path) as file, pytest.raises(CellsError, match="a row for each of 60 cells"):
        file.has_vector("short")


def test_files_without_cells_are_refused(tmp_path, write):
    with h5py.File(tmp_path / "empty.h5ad", "w") as raw:
        raw["X"] = np.zeros(3)
    with pytest.raises(CellsError, match="no table of cells"):
        EmbeddedFile(tmp_path / "empty.h5ad")
    with pytest.raises(CellsError, match="has no cells"):
        EmbeddedFile(write(n_cells=0, labels=None))
    (tmp_path / "text.h5ad").write_text("cell,gene")
    with pytest.raises(CellsError, match="not an HDF5 file"):
        EmbeddedFile(tmp_path / "text.h5ad")
