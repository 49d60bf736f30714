"""What processes hold is counted once, children with their parents."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scgpt_infer.memory import held_bytes, measure

LARGE = 60_000_000
HOLDER = f"data = bytearray({LARGE}); print('holding', flush=True); input()"

linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no /proc")


@linux
def test_what_is_held_grows_with_what_is_used():
    before = held_bytes()
    used = np.ones(LARGE, np.uint8)
    assert LARGE * 0.9 < held_bytes() - before < LARGE * 1.2
    del used
    measure.trim()
    assert held_bytes() - before < LARGE * 0.2


@linux
def test_children_count():
    before = held_bytes()
    words = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"holding\n"
        assert held_bytes() - before > LARGE
        assert measure.resident_bytes() >= held_bytes(child.pid) > LARGE
        child.stdin.close()
    assert held_bytes() - before < LARGE / 2


@linux
def test_where_pss_is_not_told_resident_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("900 300 20 1 0 40 0\n")
    monkeypatch.setattr(measure, "_PROC", tmp_path)
    assert held_bytes(7) == 300 * measure._PAGE


def test_without_proc_it_is_the_most_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "_PROC", tmp_path)
    assert held_bytes() > 10_000_000
