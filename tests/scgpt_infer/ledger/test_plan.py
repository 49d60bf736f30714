from dataclasses import replace

import pytest

from scgpt_infer.ledger.origin import Origin
from scgpt_infer.ledger.plan import PLAN, Plan
from scgpt_infer.writers.sink import Column, Table
from scgpt_runtime.errors import CellsError, OutputError


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "cells.h5ad"
    path.write_bytes(bytes(range(256)) * 40_000)  # 10 MB: sampled, not read whole
    return path


@pytest.fixture
def plan(cells):
    return Plan(
        origin=Origin.of([cells]),
        n_cells=5000,
        range_rows=1024,
        dim=64,
        dtype="float32",
        key="X_scGPT",
        prefix="scgpt_",
        kind="cell_types",
        facts={"vector_id": "v", "provider": "cpu", "threads": 2, "seed": 0},
        asked={"batch_tokens": None},
        columns=(Column("label", ("B", "T")),),
        tables=(Table("ADT", "predicted", 2, ("CD3", "CD4")),),
    )


def test_a_plan_comes_back_as_it_was(plan, tmp_path):
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan
    assert plan.differences(Plan.read(tmp_path)) == []
    assert plan.n_ranges == 5


def test_the_first_of_two_plans_stays(plan, tmp_path):
    plan.write(tmp_path)
    replace(plan, n_cells=7).write(tmp_path)
    assert Plan.read(tmp_path) == plan


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_cells": 10}, "n_cells 5000 instead of 10"),
        ({"dtype": "float16"}, "dtype float32 instead of float16"),
        ({"asked": {"batch_tokens": 64}}, "batch_tokens None instead of 64"),
        ({"facts": {"vector_id": "w", "provider": "cpu", "seed": 0}}, "vector_id v instead of w"),
        ({"facts": {"vector_id": "v", "provider": "openvino", "seed": 0}}, "provider cpu instead of openvino"),
        ({"columns": ()}, "columns"),
        ({"origin": None}, "size of the input 10240000 instead of None"),
    ],
)
def test_what_differs_is_named(plan, changes, said):
    assert any(one.startswith(said) for one in plan.differences(replace(plan, **changes)))


def test_threads_do_not_matter(plan):
    assert plan.differences(replace(plan, facts={**plan.facts, "threads": 16, "instances": 4})) == []


def test_another_format_is_refused(plan, tmp_path):
    plan.write(tmp_path)
    path = tmp_path / PLAN
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(OutputError, match="has the format 9; this version knows 1"):
        Plan.read(tmp_path)


def test_a_folder_without_a_plan_is_none_of_ours(tmp_path):
    with pytest.raises(OutputError, match=r"no folder of parts"):
        Plan.read(tmp_path)


def test_a_file_is_known_by_its_ends_and_samples_and_a_copy_by_its_content(cells, tmp_path):
    before = Origin.of([cells])
    copy = tmp_path / "copy" / "cells.h5ad"
    copy.parent.mkdir()
    copy.write_bytes(cells.read_bytes())
    assert Origin.of([copy]).told() == before.told()
    for place in (0, 10_239_999):
        data = bytearray(cells.read_bytes())
        data[place] ^= 1
        copy.write_bytes(data)
        assert Origin.of([copy]).told() != before.told()


def test_a_folder_is_known_by_its_files_and_one_that_goes_is_said(tmp_path):
    store = tmp_path / "store.zarr"
    (store / "X").mkdir(parents=True)
    (store / "X" / "0").write_bytes(b"values")
    before = Origin.of([store])
    (store / "X" / "1").write_bytes(b"more")
    assert Origin.of([store]).told() != before.told()
    (store / "X" / "1").unlink()
    assert Origin.of([store]).told() == before.told()
    (store / "X" / "0").unlink()
    (store / "X" / "0").symlink_to(tmp_path / "gone")
    with pytest.raises(CellsError, match="cannot be read"):
        Origin.of([store])
