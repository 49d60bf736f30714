"""The native protocol of a real server: what the command line tells of the same cells, in every form."""

import io
import json
import urllib.request
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pyarrow as pa
import pytest

from scgpt_infer import cli, demo

ARROW, NPY, JSON = "application/vnd.apache.arrow.stream", "application/x-npy", "application/json"
BETWEEN_BATCHES = 1e-5  # fp32, as the contract has it


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    found = ad.read_h5ad(demo.CELLS)[:12].copy()
    found.X = found.X.toarray()
    found.X[3] = 0  # a cell without a vector
    return found


def told_by_the_command_line(task: str, cells: ad.AnnData, folder: Path) -> dict[str, Any]:
    cells.write_h5ad(folder / "cells.h5ad")
    words = [folder / "cells.h5ad", "--model", "demo", "--provider", "cpu", "-o", folder / "out.json", "--quiet"]
    assert cli.run([task, *map(str, words)]) == 0
    found: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return found


def asked(url: str, body: bytes, kind: str = JSON, accept: str = JSON) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": kind, "Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: bytes = answer.read()
    return found


def as_json(cells: ad.AnnData) -> bytes:
    rows = [
        {"cell": name, "genes": {gene: int(row[place]) for place, gene in enumerate(cells.var_names) if row[place]}}
        for name, row in zip(cells.obs_names, cells.X, strict=True)
    ]
    return json.dumps({"cells": rows}).encode()


def as_arrow(cells: ad.AnnData) -> bytes:
    columns = [np.flatnonzero(row) for row in cells.X]
    table = pa.table(
        {
            "cell": list(cells.obs_names),
            "genes": [list(cells.var_names[places]) for places in columns],
            "values": pa.array(
                [row[places].astype(np.float32) for row, places in zip(cells.X, columns, strict=True)],
                pa.list_(pa.float32()),
            ),
        },
        schema=pa.schema([("cell", pa.string()), ("genes", pa.list_(pa.string())), ("values", pa.list_(pa.float32()))]),
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def check_same(found: Any, expected: Any) -> None:
    """Documents that differ in the last digits of numbers at the most, as batches do."""
    assert type(found) is type(expected)
    match expected:
        case dict():
            assert [*found] == [*expected]
            check_same([*found.values()], [*expected.values()])
        case list():
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                check_same(one, other)
        case float():
            assert found == pytest.approx(expected, abs=BETWEEN_BATCHES)
        case _:
            assert found == expected


def vectors_in(document: dict[str, Any]) -> np.ndarray[Any, Any]:
    width = document["run"]["dim"]
    return np.array([cell["embedding"] or [np.nan] * width for cell in document["cells"]], np.float32)


@pytest.mark.parametrize("task", ["embed", "annotate"])
def test_a_server_tells_what_the_command_line_tells(running: Any, cells: ad.AnnData, tmp_path: Path, task: str) -> None:
    expected = told_by_the_command_line(task, cells, tmp_path)
    found = json.loads(asked(f"{running.url}/v1/{task}", as_json(cells)))
    check_same(found, expected)


def test_every_form_has_the_same_vectors(running: Any, cells: ad.AnnData) -> None:
    url = f"{running.url}/v1/embed"
    expected = vectors_in(json.loads(asked(url, as_json(cells))))
    table = pa.ipc.open_stream(asked(url, as_arrow(cells), ARROW, ARROW)).read_all()
    matrix = np.load(io.BytesIO(asked(url, as_json(cells), JSON, NPY)), allow_pickle=False)
    assert np.isnan(expected[3]).all()
    assert np.isfinite(np.delete(expected, 3, axis=0)).all()
    np.testing.assert_allclose(matrix, expected, atol=BETWEEN_BATCHES)
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), expected, atol=BETWEEN_BATCHES)
    assert table["error"].to_pylist() == [None] * 3 + ["all values are zero"] + [None] * 8
