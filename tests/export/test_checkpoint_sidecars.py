"""Names and fields beside the weights are read in every form that is promised, and checked."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from scgpt_export.sidecars import read_args, read_genes, read_names
from scgpt_runtime.errors import CheckpointError


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    obs = pd.DataFrame({"stage": [10, 9, 2, 9]}, index=[f"c{i}" for i in range(4)])
    obs["kind"] = pd.Categorical(["b", "a", "b", None], categories=["b", "a", "z"])
    var = pd.DataFrame({"symbol": ["A", "A"]}, index=["ENSG1", "ENSG2"])
    anndata.AnnData(np.zeros((4, 2), np.float32), obs=obs, var=var).write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.mark.parametrize("content", [["x", "y", "z"], {"1": "y", "0": "x", "2": "z"}, {"z": 2, "x": 0, "y": 1}])
def test_names_come_as_a_list_or_as_a_mapping_in_either_direction(tmp_path: Path, content: object) -> None:
    assert read_names(write(tmp_path / "names.json", content), "labels", 3) == ("x", "y", "z")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (["x", "x", "y"], "x more than once"),
        ({"x": 0, "y": 2, "z": 3}, "none with the id 1"),
        ({"0": "x", "1": "y", "3": "z"}, "none with the id 2"),
        ({"0": "x", "1": "y", "2": "y"}, "y more than once"),
        ([1, 2, 3], "expected a list of names"),
        ("[", "cannot be read as JSON"),
        ('{"x": 0, "x": 1, "y": 2}', "x more than once"),
    ],
)
def test_names_that_cannot_be_right_are_refused(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        read_names(write(tmp_path / "names.json", content), "labels", 3)


def test_cell_types_are_sorted_as_they_are_and_batches_as_text(cells: Path) -> None:
    column = Path(f"{cells}:stage")
    assert read_names(column, "labels", 3) == ("2", "9", "10")
    assert read_names(column, "batches", 3) == ("10", "2", "9")


def test_cell_types_stored_in_another_order_than_the_sorted_one_are_refused_with_both(cells: Path) -> None:
    with pytest.raises(CheckpointError, match=r"order b, a, z, .* a, b, z\..*JSON list"):
        read_names(Path(f"{cells}:kind"), "labels", 3)
    assert read_names(Path(f"{cells}:kind"), "batches", 3) == ("a", "b", "z")  # the tutorials sort them as text


def test_genes_come_from_a_column_or_the_index_of_var_in_the_order_of_the_file(cells: Path) -> None:
    assert read_genes(Path(f"{cells}:symbol")) == ("A", "A")
    assert read_genes(Path(f"{cells}:index")) == ("ENSG1", "ENSG2")


def test_a_column_that_is_not_there_is_answered_with_those_that_are(cells: Path) -> None:
    with pytest.raises(CheckpointError, match="no column 'celltype' in obs: it has stage, kind"):
        read_names(Path(f"{cells}:celltype"), "labels", 3)
    with pytest.raises(CheckpointError, match="does not say which column"):
        read_names(cells, "labels", 3)


def test_a_damaged_h5ad_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cells.h5ad").write_bytes(b"no hdf5")
    with pytest.raises(CheckpointError, match="cannot be read as h5ad"):
        read_genes(Path(f"{tmp_path}/cells.h5ad:index"))


def test_no_genes_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="names no gene"):
        read_genes(write(tmp_path / "genes.json", []))


def test_later_args_go_before_earlier_ones(tmp_path: Path) -> None:
    base, given = write(tmp_path / "a.json", {"nheads": 8, "n_bins": 51}), write(tmp_path / "b.json", {"nheads": 4})
    assert read_args([base, given]) == {"nheads": 4, "n_bins": 51}


@pytest.mark.parametrize("content", ["[1]", "{", "\udcff", "[" * 100_000])
def test_args_that_are_no_object_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "args.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"args.json"):
        read_args([tmp_path / "args.json"])
