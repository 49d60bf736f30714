"""Figures of a visit: cells and their lengths, ratios, kernels, tables."""

import json

import numpy as np
import pytest

from benchmarks.gpu import complete
from benchmarks.gpu_visit import lengths, ncu, peaks, record, table, trace
from benchmarks.gpu_visit.checks import outcomes
from benchmarks.gpu_visit.contest import ratios
from benchmarks.gpu_visit.ours import Way, taken
from benchmarks.gpu_visit.parity import difference, relative
from benchmarks.gpu_visit.sweep import series
from benchmarks.study.record import flop_a_cell
from scgpt_runtime.manifest import TokenizerSettings

SETTINGS = TokenizerSettings(cls_id=1, pad_id=0)
WHOLE_HUMAN = {"nlayers": 12, "embsize": 512, "d_hid": 512}


def test_flop_of_a_cell_are_those_of_the_published_model():
    assert flop_a_cell(WHOLE_HUMAN, 1200) == pytest.approx(37.75e6 * 1200 + 24_576 * 1200**2, rel=1e-4)


def test_genes_a_cell_follow_the_quantiles_of_pbmc3k():
    drawn = lengths.genes_a_cell(200_000, seed=0)
    steps = np.linspace(0, 1, len(lengths.KNOWN_GENES))
    np.testing.assert_allclose(np.quantile(drawn, steps[1:-1]), lengths.KNOWN_GENES[1:-1], rtol=0.02)
    assert drawn.min() >= lengths.KNOWN_GENES[0]
    assert drawn.max() <= lengths.KNOWN_GENES[-1]
    assert np.minimum(drawn + 1, 1200).mean() == pytest.approx(780, rel=0.01)  # as measured on the real cells
    assert np.array_equal(drawn[:5], lengths.genes_a_cell(200_000, seed=0)[:5])


def test_cells_have_each_gene_once_and_become_tokens_of_their_length():
    tokens = lengths.real_lengths(40, 3_000, SETTINGS, seed=3)
    expected = np.minimum(lengths.genes_a_cell(40, 3) + 1, 1200)
    assert np.diff(tokens.offsets).tolist() == expected.tolist()
    first = tokens.ids[tokens.offsets[0] : tokens.offsets[1]]
    assert first[0] == SETTINGS.cls_id
    assert len(np.unique(first)) == len(first)


def test_cells_of_one_length_have_cls_first_and_no_padding():
    tokens = lengths.one_length(5, 30, 3_000, SETTINGS, seed=0)
    rows = tokens.ids.reshape(5, 30)
    assert (rows[:, 0] == SETTINGS.cls_id).all()
    assert not np.isin(rows[:, 1:], [SETTINGS.cls_id, SETTINGS.pad_id]).any()
    assert tokens.ids.dtype == np.uint16


def test_some_cells_of_a_block_keep_their_tokens():
    tokens = lengths.real_lengths(6, 3_000, SETTINGS, seed=3)
    some = taken(tokens, np.array([4, 1]))
    for row, cell in enumerate((4, 1)):
        mine, theirs = (slice(block.offsets[at], block.offsets[at + 1]) for block, at in ((some, row), (tokens, cell)))
        assert np.array_equal(some.ids[mine], tokens.ids[theirs])
        assert np.array_equal(some.values[mine], tokens.values[theirs])


def test_ratios_compare_round_by_round_with_our_best():
    rates = {"ours a": [10.0, 20.0, 30.0], "ours b": [5.0, 5.0, 5.0], "peer": [5.0, 5.0, 10.0]}
    (row,) = ratios(rates, ["ours a", "ours b"])
    assert (row["ours"], row["peer"], row["ratios"]) == ("ours a", "peer", [2.0, 4.0, 3.0])
    assert row["spread"] == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert ratios({"peer": [1.0]}, ["ours a"]) == []


def test_equal_answers_differ_by_nothing_and_turned_ones_by_their_angle():
    rows = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    for precision in ("fp32", "fp16"):
        assert difference(rows, rows, precision) == 0
    turned = np.array([[3.0, 4.0], [1.0, 0.1]], np.float32)
    assert difference(turned, rows, "fp16") == pytest.approx(0.005, rel=0.02)
    assert relative(turned, rows) == pytest.approx(0.1, rel=0.02)
    assert difference(np.full_like(rows, np.nan), rows, "fp32") != 0


def test_a_sweep_tries_every_combination_once_the_telling_ones_first():
    ways = [
        Way("cuda", "fp16", "cuda-packed"),
        Way("cuda", "fp16", "portable", False),
        Way("cuda", "fp32", "portable", False),
    ]
    tried = [(way.name, length, budget) for way, grid in series(ways) for length, budget in grid]
    assert tried[0] == ("fp16 cuda-packed", 1200, 16384)
    assert len(set(tried)) == len(tried) - 8  # the quick series comes again within the whole one
    assert {length for _, length, _ in tried} == {256, 512, 1024, 1200}
    assert {budget for name, _, budget in tried if name == "fp16 cuda-packed"} == {2**n for n in range(12, 18)}
    assert any("no CUDA graph" in name for name, _, _ in tried)


def test_the_peak_is_the_median_of_the_fastest_shape():
    rows = [{"precision": "fp16", "tflops": {"median": rate, "low": 0, "high": 999}} for rate in (600.0, 700.0, 650.0)]
    assert peaks.best(rows) == {"fp16": 700.0}


# Kernels -------------------------------------------------------------------------------------------------------------


def event(name: str, start: float, microseconds: float, kind: str = "kernel") -> dict:
    return {"ph": "X", "cat": kind, "name": name, "ts": start, "dur": microseconds}


@pytest.fixture
def activities(tmp_path):
    events = [
        event("gemm", 110, 50),
        event("gemm", 100, 8),
        event("copy", 105, 10, "gpu_memcpy"),
        event("norm", 165, 20),
        event("aten::mm", 0, 900, "cpu_op"),
        {"ph": "M", "name": "process_name"},
    ]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    return trace.read(path)


def test_a_trace_gives_kernels_in_order_and_the_gaps_between(activities):
    assert [one.name for one in activities] == ["gemm", "copy", "gemm", "norm"]
    assert trace.gaps(activities) == pytest.approx([5e-6])
    told = trace.idle(activities)
    assert told["seconds"] == pytest.approx(85e-6)
    assert told["share"] == pytest.approx(5 / 85)
    assert trace.idle([])["share"] is None


def test_kernels_are_summed_by_name_the_longest_first(activities):
    rows = trace.by_kernel(activities)
    assert [(row["name"], row["calls"]) for row in rows] == [("gemm", 2), ("norm", 1), ("copy", 1)]
    assert rows[0]["share"] == pytest.approx(58 / 88)


NCU = """==PROF== Connected to process 12
"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","12","gemm(int)","dram__bytes_read.sum","byte","1,000,000"
"0","12","gemm(int)","dram__bytes_write.sum","Mbyte","2.5"
"0","12","gemm(int)","gpu__time_duration.sum","ns","12,000"
"1","12","gemm(int)","gpu__time_duration.sum","usecond","8"
"1","12","gemm(int)","dram__bytes_read.sum","byte","500"
"2","12","norm","gpu__time_duration.sum","ns","100"
==PROF== Disconnected from process 12
"""


def test_counters_are_read_with_their_units():
    first, second = ncu.by_kernel(NCU)
    assert (first["name"], first["calls"]) == ("gemm(int)", 2)
    assert first["seconds"] == pytest.approx(20e-6)
    assert (first["bytes_read"], first["bytes_written"]) == (1_000_500, 2_500_000)
    assert second["share"] == pytest.approx(0.1 / 20.1)
    assert ncu.by_kernel("==ERROR== no permission\n") == []


def test_outcomes_of_tests_are_read_from_what_pytest_says():
    lines = ["PASSED tests/runtime/test_gpus.py::test_a", "FAILED tests/b.py::test_c - assert 1", "1 passed in 2s"]
    assert outcomes(lines) == {
        "tests/runtime/test_gpus.py::test_a": "passed",
        "tests/b.py::test_c - assert 1": "failed",
    }


# Tables --------------------------------------------------------------------------------------------------------------


def spread(median: float) -> dict:
    return {"median": median, "low": median * 0.9, "high": median * 1.1}


@pytest.fixture
def document():
    way = {"provider": "cuda", "precision": "fp16", "dialect": "cuda-packed", "recorded": True}
    kernel = {"name": "flash_fwd", "kind": "kernel", "calls": 12, "seconds": 1.5e-3, "share": 0.4}
    found = {
        "facts": {"state": {"driver_version": "580.1", "clocks.sm": "1980 MHz"}, "versions": {"torch": "2.11.0"}},
        "peaks": {
            "products": [{"precision": "fp16", "rows": 8192, "depth": 8192, "columns": 8192, "tflops": spread(700)}],
            "best": {"fp16": 700.0},
            "copies": [{"kind": "on the device", "bytes": 1, "gbps": spread(3000)}],
        },
        "parity": {
            "ways": [
                way | {"one_minus_cosine": 3e-7, "relative": 8e-4, "limit": 1e-4, "ok": True},
                way | {"dialect": "cuda-exact", "error": "ProviderError: no kernel\nmore"},
            ],
            "contract": [
                {
                    "precision": "fp16",
                    "dialect": "cuda-packed",
                    "case": "again",
                    "difference": 0,
                    "limit": 0,
                    "ok": True,
                },
                {"precision": "fp16", "dialect": "cuda-packed", "case": "x", "difference": 1, "limit": 0, "ok": False},
            ],
        },
        "sweep": {
            "rows": [
                way | {"length": 1200, "budget": budget, "tflops": 350.0, "spread": spread(rate)}
                for budget, rate in ((16384, 4321.0), (65536, 4000.0))
            ]
        },
        "cells": {
            "rows": [way | {"batch_tokens": 16384, "spread": spread(5432), "share": {"tokenise": 0.1, "infer": 0.9}}],
            "auto": {"rate": 5400.0, "choice": "cuda fp16", "why": "measured"},
            "idle": {"share": 0.05, "seconds": 1.0, "way": "fp16 cuda-packed"},
        },
        "peers": {
            "contenders": [
                {"name": "PyTorch random", "ours": False, "one_minus_cosine": 1e-6},
                {"name": "PyTorch odd", "ours": False, "error": "RuntimeError: no"},
            ],
            "rates": [{"workload": "w", "name": "PyTorch random", "spread": spread(1234)}],
            "ratios": [{"workload": "w", "peer": "PyTorch random", "ours": "scgpt-infer", "spread": spread(2.5)}],
        },
        "profile": {
            "traces": [
                {
                    **{"way": "fp16 cuda-packed, no CUDA graph", "cells": 13, "length": 1200, "busy": 3e-3},
                    **{"kernels": [kernel], "gaps": {"count": 9, "median": 1e-6, "seconds": 1e-5}},
                }
            ],
            "counters": [{"way": "fp16 cuda-packed", "kernels": [kernel | {"bytes_read": 2e8, "bytes_written": 1e8}]}],
        },
    }
    made = record.new(rehearsal=False, seed=0, small=False)
    made["device"], made["model"] = {"name": "Made-up GPU"}, {"nlayers": 12, "embsize": 512}
    made["stages"] = {name: {"status": "done", "seconds": 3.0, "found": one} for name, one in found.items()}
    made["stages"]["checks"] = {
        "status": "stopped",
        "seconds": 9,
        "why": "stopped at its limit; last: a\nb",
        "found": {},
    }
    return made


def test_the_table_tells_parity_rates_shares_ratios_and_kernels(document):
    text = table.markdown(document)
    for told in (
        "# Made-up GPU\n",
        "| fp16 cuda-packed (CUDA graph) | 3.0e-07 | 8.0e-04 | 1.0e-04 | yes |",
        "ProviderError: no kernel |",
        "| fp16 cuda-packed | equal | **1.0e+00** |",
        "4,321 (3,889 to 4,753), 50 % of peak; 16,384 a batch",
        "tokenise 10 %, infer 90 %",
        "5.0 % of 1.00 s",
        "| PyTorch random | 1.0e-06 | 1,234 (1,111 to 1,357) | 2.5 (2.25 to 2.75) |",
        "200.0 MB, 100.0 MB, 0.20 TB/s",
        "| checks | stopped | 9 s | b |",
    ):
        assert told in text
    assert "rehearsal" not in text
    assert table.short(document).count("## ") == 5


def test_no_speed_of_a_rehearsal_is_shown(document):
    document |= {"rehearsal": True, "note": record.NOTE, "device": {}}
    text = table.markdown(document)
    assert all(record.NOTE in line for line in text.splitlines() if line.startswith("#"))
    for speed in ("4,321", "5,432", "5,400", "1,234", "2.5 (", "700", "3,000", "% of peak"):
        assert speed not in text
    assert "| 3.0e-07 |" in text  # parity is true anywhere


def test_a_visit_is_complete_when_all_stages_are_and_parity_holds(document):
    assert not complete(document)
    del document["stages"]["checks"]
    assert not complete(document)
    document["stages"]["parity"]["found"]["contract"].pop()
    assert complete(document)
