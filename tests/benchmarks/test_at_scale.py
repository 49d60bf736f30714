"""The benchmark of millions of cells: its cells, its arithmetic, and that a small series comes to a written result."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.at_scale.estimate import Device, Rates, devices_at_limit, estimate
from benchmarks.at_scale.generated import COUNTS, Generated
from benchmarks.at_scale.rounds import Rounds
from benchmarks.at_scale.stored import repeated, written
from benchmarks.at_scale.tables import duration, scale_table
from scgpt_infer import demo
from scgpt_infer.readers import open_cells
from scgpt_runtime.errors import CellsError

GENES = [f"G{number}" for number in range(13_656)]
GPU = Device("gpu", 1000.0, 2.0, False, "a guess", "a list")
RATES = Rates(feeding=40_000, merging=100_000, input_bytes=2000, parts_bytes=2100, output_bytes=2050)


def row(block, number):
    part = slice(block.indptr[number], block.indptr[number + 1])
    return block.indices[part].tolist(), block.data[part].tolist()


def test_a_generated_cell_depends_on_the_seed_and_its_row_alone():
    cells = Generated(5000, GENES, seed=3)
    whole = next(cells.blocks([range(2000)]))
    late, early = cells.blocks([range(1500, 1510), range(10)])
    assert late.first_row == 1500
    assert row(late, 7) == row(whole, 1507)
    assert row(early, 7) == row(whole, 7)
    assert row(next(Generated(5000, GENES, seed=4).blocks([range(10)])), 7) != row(early, 7)


def test_generated_cells_are_distributed_as_those_of_pbmc3k():
    block = Generated(20_000, GENES).sample(20_000)
    sizes = np.diff(block.indptr)
    assert sizes.mean() == pytest.approx(849, rel=0.01)
    assert (sizes > 1199).mean() == pytest.approx(0.091, abs=0.01)
    for count, share in COUNTS:
        assert (block.data <= count).mean() == pytest.approx(share, abs=0.002)
    assert block.data.min() == 1
    assert 0 <= block.indices.min() < 50
    assert len(GENES) - 50 < block.indices.max() < len(GENES)
    inside = np.ones(len(block.indices) - 1, bool)
    inside[block.indptr[1:-1] - 1] = False
    assert (np.diff(block.indices)[inside] > 0).all()


def test_too_few_genes_are_refused():
    with pytest.raises(CellsError, match="3 genes; a generated cell expresses up to 2413"):
        Generated(10, ["a", "b", "c"])


def test_a_file_in_rounds_gives_its_rows_again(tmp_path):
    cells = repeated(demo.CELLS, 2048)
    path = written(cells, "gzip", tmp_path)
    with open_cells(path) as once, Rounds(open_cells(path), 10_000) as rounds:
        (block,) = rounds.blocks([range(5120, 6144)])
        (same,) = once.blocks([range(1024, 2048)])
        assert rounds.n_cells == 10_000
        assert block.first_row == 5120
        np.testing.assert_array_equal(block.data, same.data)
        np.testing.assert_array_equal(block.indices, same.indices)
        assert rounds.cell_names(5120, 5122) == ["cell1024", "cell1025"]


def test_rounds_of_no_whole_ranges_are_refused(tmp_path):
    with pytest.raises(CellsError, match="700 rows"):
        Rounds(open_cells(demo.CELLS), 10_000)


@pytest.mark.parametrize(("way", "counted"), [("uncompressed", "X"), ("gzip", "X"), ("zarr", "X")])
def test_all_ways_to_store_hold_the_same_cells(tmp_path, way, counted):
    cells = repeated(demo.CELLS, 1024)
    with open_cells(written(cells, way, tmp_path)) as source:
        block = source.sample(2000)
        assert source.counts == counted
        assert block.n_cells == 1024
        assert block.data.sum() == pytest.approx(cells.X.sum())


def test_the_model_is_the_limit_where_it_is_slow():
    found = estimate(1_000_000, 4, GPU, RATES)
    assert found.limit == "model"
    assert found.parts_seconds == pytest.approx(1_000_000 / 4000)
    assert found.merge_seconds == pytest.approx(10)
    assert found.seconds == pytest.approx(260)
    assert found.cost == pytest.approx((4 * 250 + 10) / 3600 * 2)


def test_feeding_is_the_limit_of_a_device_that_is_faster():
    fast = Device("fast", 90_000.0, 2.0, False, "", "")
    assert estimate(1_000_000, 1, fast, RATES).limit == "feeding"
    assert estimate(1_000_000, 1, fast, RATES).parts_seconds == pytest.approx(25)


def test_merging_is_the_limit_from_the_number_of_devices_that_is_told():
    limit = devices_at_limit(GPU, RATES)
    assert limit == pytest.approx(100)
    assert estimate(1_000_000, 99, GPU, RATES).limit == "model"
    assert estimate(1_000_000, 101, GPU, RATES).limit == "merging"


def test_an_assumption_is_told_as_one():
    told = scale_table([GPU], RATES)
    assert "assumed, not measured here: a guess" in told
    assert "| 100,000,000 | 64 | 26 min 2 s | 16 min 40 s | 42 min 42 s | 56.11 | model | 128, 134 |" in told
    assert "| 1,000,000 | 2.0 | 2.1 | 2.0 |" in told


@pytest.mark.parametrize(
    ("seconds", "words"), [(12.34, "12.3 s"), (119.6, "2 min 0 s"), (3_700, "1 h 2 min"), (200_000, "2 d 8 h")]
)
def test_durations_are_told_in_two_units(seconds, words):
    assert duration(seconds) == words


def test_a_series_is_measured_kept_and_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scale, "GOAL", 1.0)
    monkeypatch.setattr(scale, "FLAT", 2.0)
    words = ["--data", str(demo.CELLS), "--once", "1024", "--cells", "1000", "3000", "--many", "2048", "--few", "100"]
    words += ["--folder", str(tmp_path), "--json", str(tmp_path / "out.json")]
    assert scale.main([*words, "--groups", "sizes,wide,paced,model"]) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    of_model = told["runs"].popitem()[1]
    assert [run["order"]["n_cells"] for run in told["runs"].values()] == [1000, 3000, *[2048] * 4, *[500] * 3]
    for run in (of_model, *told["runs"].values()):
        found = run["found"]
        assert 0 < found["parts_seconds"] < found["seconds"]
        assert found["output_bytes"] > run["order"]["n_cells"] * 64 * 4
        assert found["parts_bytes"] > run["order"]["n_cells"] * 64 * 4
        assert run is of_model or 2 < found["tokens"] <= 600
        assert run["group"] != "paced" or found["busy"] > 0
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()
    capsys.readouterr()
    assert scale.main(["--table", "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "| 3,000 generated cells | 3,000 |" in printed
    assert "Two processor cores" in printed


def test_a_page_gets_the_tables_and_keeps_its_words():
    text = f"before\n{scale.BEGIN}\nold\n{scale.END}\nafter\n"
    assert scale.page(text, "new") == f"before\n{scale.BEGIN}\nnew\n{scale.END}\nafter\n"


def test_the_page_tells_what_the_record_says():
    root = Path(scale.__file__).parent
    record = json.loads((root / "results" / "scale.json").read_text(encoding="utf-8"))
    text = (root.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    assert scale.page(text, scale.tables(record, root / "results" / "side_by_side.json")) == text


def test_a_missed_goal_is_told(capsys):
    run = {"group": "sizes", "order": {"n_cells": 200_000}, "found": {"seconds": 20.0, "peak": 100}}
    assert scale.misses({"slow": run}) == ["slow: 10,000 cells/s; the goal is 20,000."]
    grown = {"group": "sizes", "order": {"n_cells": 10}, "found": {"seconds": 20.0, "peak": 120}}
    assert (
        "grows from 100 to 120"
        in scale.misses({"few": run | {"found": {"seconds": 1.0, "peak": 100}}, "more": grown})[0]
    )
