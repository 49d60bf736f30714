"""The whole visit to a GPU machine, rehearsed on the processor with a tiny model."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.gpu_visit.environment import ROOT
from benchmarks.gpu_visit.plan import STAGES
from benchmarks.gpu_visit.record import NOTE


@pytest.mark.slow
def test_a_rehearsal_runs_every_stage_and_leaves_no_gpu_figure(tmp_path):
    wanted = [stage.name for stage in STAGES if stage.name != "checks"]  # that one runs these tests' siblings
    command = [sys.executable, "benchmarks/gpu.py", "--rehearse", "--stages", ",".join(wanted), "--budget", "900"]
    folders = ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "gpu.rehearsal.json",
        "gpu.rehearsal.log",
        "gpu.rehearsal.md",
        "gpu.rehearsal.profile.csv",
    ]
    found = json.loads((tmp_path / "out" / "gpu.rehearsal.json").read_text())
    assert found["rehearsal"] is True
    assert {name: stage["status"] for name, stage in found["stages"].items()} == dict.fromkeys(wanted, "done")
    parity = {(row["precision"], row["dialect"]): row for row in found["stages"]["parity"]["found"]["ways"]}
    assert parity["fp32", "portable"]["ok"]
    assert parity["fp16", "cuda-flash"]["ok"]
    assert "error" in parity["fp16", "cuda-packed"]  # no processor has its kernels
    assert {row["peer"] for row in found["stages"]["peers"]["found"]["ratios"]} >= {"PyTorch sorted, chosen"}
    assert found["stages"]["compiled"]["found"]["ratios"]
    assert found["stages"]["cells"]["found"]["rows"][0]["cells"] == 24
    text = (tmp_path / "out" / "gpu.rehearsal.md").read_text()
    assert NOTE in text
    assert NOTE in done.stdout
    assert "TFLOP/s" not in text
    kept = subprocess.run(
        [*command[:2], "--keep", str(tmp_path / "out" / "gpu.rehearsal.json"), "--results", str(tmp_path / "kept")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert kept.returncode != 0
    assert "holds no GPU figure" in kept.stderr
    assert not (tmp_path / "kept").exists()
