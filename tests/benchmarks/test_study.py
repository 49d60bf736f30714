"""What the comparison makes of its runs: cells, figures, table and chart."""

import json
import xml.etree.ElementTree as ElementTree

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from benchmarks.study.chart import svg
from benchmarks.study.draw import draw, draw_long, draw_others, rows_of
from benchmarks.study.figures import Run, likeness, spread
from benchmarks.study.record import Entry, LongCells, Record, flop_a_cell
from benchmarks.study.table import markdown, missed, ratios

WHOLE_HUMAN = {"nlayers": 12, "embsize": 512, "d_hid": 512}


def run(seconds: float, start: float = 1.0, cells: int = 8, apart: float = 0.0) -> Run:
    step = (seconds - start) / (cells - 1)
    return Run(seconds, apart, tuple((start + i * step, 1) for i in range(cells)), 10**9)


def entry(name: str, *seconds: float, ours: bool = False) -> Entry:
    return Entry(name, f"the {name}", ours, [run(s) for s in seconds])


@pytest.fixture
def record() -> Record:
    entries = [entry("original", 40, 44, 42), entry("torch-bf16", 9, 9, 9), entry("ours", 3, 4, 3.5, ours=True)]
    entries.append(Entry("ours-int8", "the int8", True, reason="no int8 in this bundle"))
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(8, 16)).astype(np.float32)
    for one in entries[:3]:
        one.likeness = likeness(vectors, vectors)
    machine = dict.fromkeys(
        ("date", "processor", "cores", "memory", "instructions", "python", "torch", "onnxruntime", "openvino"), "x"
    )
    words = dict.fromkeys(("title", "cells", "lengths", "rounds", "n_rounds", "long"), "words & more")
    return Record(machine, words, {"fp32": 0.19, "bf16": 0.43}, entries)


@pytest.fixture
def cells(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, (40, 30)).astype(np.float32)
    names = pd.DataFrame(index=[f"g{i}" for i in range(30)])
    obs = pd.DataFrame(index=[f"c{i}" for i in range(40)])
    anndata.AnnData(csr_matrix(counts), obs=obs, var=names).write_h5ad(tmp_path / "all.h5ad")
    return tmp_path / "all.h5ad"


def test_a_draw_is_the_same_again_and_another_seed_gives_other_cells():
    assert np.array_equal(rows_of(2638, 256, 0), rows_of(2638, 256, 0))
    assert not np.array_equal(rows_of(2638, 256, 0), rows_of(2638, 256, 1))
    assert len(set(rows_of(2638, 256, 0))) == 256


def test_the_256_cells_of_pbmc3k_are_these():
    rows = rows_of(2638, 256, 0)
    assert rows[:5].tolist() == [6, 12, 20, 37, 39]
    assert int(rows.sum()) == 353083


def test_drawing_more_cells_than_there_are_is_refused():
    with pytest.raises(SystemExit, match="Found 5 cells"):
        rows_of(5, 6, 0)


def test_drawn_cells_are_those_of_the_file(cells, tmp_path):
    draw(cells, tmp_path / "some.h5ad", 12, 0)
    some, everything = anndata.read_h5ad(tmp_path / "some.h5ad"), anndata.read_h5ad(cells)
    assert some.obs_names.tolist() == [f"c{row}" for row in rows_of(40, 12, 0)]
    assert (some.X != everything[some.obs_names].X).nnz == 0


def test_cells_to_calibrate_with_are_not_those_that_are_judged(cells, tmp_path):
    draw(cells, tmp_path / "some.h5ad", 30, 0)
    draw_others(cells, tmp_path / "others.h5ad", 30, 64, 0)
    some, others = anndata.read_h5ad(tmp_path / "some.h5ad"), anndata.read_h5ad(tmp_path / "others.h5ad")
    assert sorted([*some.obs_names, *others.obs_names]) == sorted(f"c{row}" for row in range(40))


def test_long_cells_have_the_genes_that_were_asked_for_and_real_counts(cells, tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({f"g{i}": i for i in range(25)}))
    assert draw_long(cells, tmp_path / "vocab.json", tmp_path / "long.h5ad", 3, 24, 0)
    made = anndata.read_h5ad(tmp_path / "long.h5ad").X.toarray()
    assert (np.count_nonzero(made[:, :25], axis=1) >= 24).all()
    assert np.array_equal(made, np.round(made))
    assert not draw_long(cells, tmp_path / "vocab.json", tmp_path / "long.h5ad", 3, 26, 0)
    assert not (tmp_path / "long.h5ad").exists()


def test_start_and_steady_state_share_the_time_of_a_process():
    found = Run(11.0, 2.0, ((5.0, 4), (7.0, 4), (9.0, 4)), 1)
    assert (found.whole_seconds, found.start_seconds, found.n_cells) == (9.0, 3.0, 12)
    assert found.steady_rate == 8 / 6.0
    assert found.model_rate == 8 / 4.0


def test_spread_is_median_least_and_most():
    found = spread([3.0, 1.0, 2.0])
    assert (found.median, found.low, found.high) == (2.0, 1.0, 3.0)


def test_likeness_sees_one_bad_cell_and_keeps_the_last_digits():
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(20, 64)).astype(np.float32)
    assert likeness(3 * expected, expected).worst > 1 - 1e-12
    found = expected.copy()
    found[7, 0] += 2.0
    changed = likeness(found, expected)
    assert changed.worst < 0.99
    assert changed.median > 1 - 1e-12
    found[7] = np.nan
    assert np.isnan(likeness(found, expected).worst)


def test_flop_of_the_public_size():
    assert flop_a_cell(WHOLE_HUMAN, 1200) == pytest.approx(37.75e6 * 1200 + 24576 * 1200**2, rel=1e-4)


def test_ratios_are_of_medians_and_name_every_peer_that_ran(record):
    found = ratios(record)
    assert set(found) == {"original", "torch-bf16"}
    assert found["original"][0] == pytest.approx(42 / 3.5)


def test_what_is_aimed_at_and_not_shown_is_missed(record):
    assert missed(record) == ["original-tuned did not run"]
    record.entries[0].runs = [run(41.0)]
    assert missed(record)[0] == "12 x original end to end: 11.71 x"
    record.entries[2].likeness = None
    assert "cosine" in missed(record)[-1]


def test_the_table_has_a_row_a_side_and_says_who_did_not_run(record):
    record.long.append(LongCells("ours", "the ours", "bf16", spread([5.0, 4.8]), 0.36, 0.84))
    text = markdown(record)
    for words in ("| the original | 3 | 42.0 (40.0 to 44.0) |", "12.0 x", "84 % of bf16", "Not run: the int8: no int8"):
        assert words in text


def test_a_peer_that_answers_all_cells_at_once_has_no_steady_state(record):
    record.entries[0].runs = [Run(42.0, 0.0, ((40.0, 8),), 1)]
    assert np.isnan(ratios(record)["original"][1])
    assert "| the original | 12.0 x | - | 12 x |" in markdown(record)
    assert "all cells in one batch" in svg(record)


def test_the_chart_is_svg_with_a_bar_a_side(record):
    root = ElementTree.fromstring(svg(record))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}rect")) == 1 + 3
    assert any(
        f"{ratios(record)['original'][1]:.1f} x" in "".join(text.itertext()) for text in root.findall(f"{space}text")
    )


def test_the_record_is_json_with_the_derived_figures(record, tmp_path):
    record.save(tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["entries"][0]["whole"] == {"median": 42, "low": 40, "high": 44}
    assert told["entries"][3]["reason"] == "no int8 in this bundle"
