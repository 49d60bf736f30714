import os
from dataclasses import replace

import pytest

from scgpt_infer.ledger.origin import Origin, Untouched
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


@pytest.fixture
def several(tmp_path):
    """A large file, and a small one that is much older."""
    paths = [tmp_path / "large.h5ad", tmp_path / "small.h5ad"]
    paths[0].write_bytes(bytes(range(256)) * 80_000)
    paths[1].write_bytes(b"counts" * 1000)
    os.utime(paths[1], (1e9, 1e9))
    return paths


def test_an_older_file_that_was_exchanged_is_noticed(several):
    before = Origin.of(several)
    os.utime(several[1], (1.1e9, 1.1e9))
    assert Origin.of(several).told() == before.told()
    assert Origin.of(several).modified != before.modified


def test_each_file_has_a_part_in_what_its_set_is_known_by(several):
    before = Origin.of(several)
    several[1].write_bytes(b"stnuoc" * 1000)
    assert Origin.of(several).told() != before.told()


def test_of_very_many_files_few_are_read(tmp_path, monkeypatch):
    store = tmp_path / "store.zarr"
    store.mkdir()
    for number in range(400):
        (store / str(number)).write_bytes(b"values")
    read = []
    opened = type(store).open
    monkeypatch.setattr(type(store), "open", lambda *words, **more: read.append(words) or opened(*words, **more))
    before = Origin.of([store])
    assert len(read) < 400
    (store / "399").write_bytes(b"others")
    os.utime(store / "7", (1e9, 1e9))
    assert Origin.of([store]).told() != before.told()
    assert Origin.of([store]).modified != before.modified


def test_what_a_job_leaves_in_the_folder_of_a_matrix_is_no_input(tmp_path):
    for name in ("matrix.mtx", "genes.tsv", "barcodes.tsv"):
        (tmp_path / name).write_text(name)
    before = Origin.of([tmp_path])
    (tmp_path / "out.npy.parts").mkdir()
    (tmp_path / "out.npy.parts" / "plan.json").write_text("{}")
    (tmp_path / "out.npy").write_bytes(b"vectors")
    assert Origin.of([tmp_path]) == before
    (tmp_path / "genes.tsv").write_text("others")
    assert Origin.of([tmp_path]).told() != before.told()
    assert Origin.of([tmp_path / "matrix.mtx"]).size == Origin.of([tmp_path]).size


def test_parts_and_half_written_files_are_no_input_and_what_zarr_hides_is(tmp_path):
    store = tmp_path / "store.zarr"
    (store / "out.npy.parts").mkdir(parents=True)
    before = Origin.of([store])
    (store / "out.npy.parts" / "lock").write_text("1")
    (store / ".out.npy.1").write_text("half")
    assert Origin.of([store]) == before
    (store / ".zattrs").write_text("{}")
    assert Origin.of([store]).told() != before.told()


@pytest.mark.parametrize("what", ["time", "gone"])
def test_an_input_that_is_touched_at_work_is_noticed(several, what):
    origin = Origin.of(several)
    untouched = Untouched(origin, several)
    untouched.check()
    if what == "time":
        os.utime(several[1], (1.1e9, 1.1e9))
    else:
        several[1].unlink()
    with pytest.raises(CellsError, match=r"small\.h5ad was changed, replaced or removed"):
        untouched.check()
    with pytest.raises(CellsError, match="since the job began"):
        Untouched(origin, several)
    Untouched(None, ()).check()
