"""The feeding benchmark: what its clock keeps, and that every case comes to a written result."""

import json

import numpy as np
import pytest

from benchmarks import feeding
from scgpt_infer import demo


def test_operations_of_a_cell_are_those_of_the_published_model():
    assert feeding.flop(np.array([1200])) == pytest.approx(80.7e9, rel=1e-3)
    assert feeding.flop(np.array([600, 600])) < feeding.flop(np.array([1200]))


def test_all_cases_are_measured_and_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(feeding, "GOAL", 1.0)
    status = feeding.main([str(demo.CELLS), "--cells", "700", "--rounds", "1", "--json", str(tmp_path / "out.json")])
    told = json.loads((tmp_path / "out.json").read_text())
    assert status == 0
    assert len(told["rounds"]) == len(feeding.STORED) * len(feeding.ROUTES) * len(feeding.OUTPUTS) * 2
    for name, (one,) in told["rounds"].items():
        assert one["cells_per_second"] > 0
        assert (one["idle"] < 1) == name.endswith("at the goal")
    assert "no device" in capsys.readouterr().out


def test_a_slow_feed_is_told_by_the_exit_code(capsys, monkeypatch):
    monkeypatch.setattr(feeding, "GOAL", 1e12)
    assert feeding.main([str(demo.CELLS), "--cells", "100", "--rounds", "1"]) == 3
