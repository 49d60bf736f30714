import errno
import os
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from scgpt_infer.readers import spool
from scgpt_infer.readers.spool import Tape, check_room
from scgpt_runtime.errors import CellsError


@pytest.fixture(params=[64 << 20, 100, 0], ids=["memory", "moves", "disk"])
def tape(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tape = Tape(np.int32, "cells.csv", request.param or 1)
    yield tape
    tape.close()


def test_what_goes_in_comes_out_by_slices(tape: Tape):
    numbers = np.arange(1000, dtype=np.int32)
    for low, high in [(0, 10), (10, 10), (10, 900)]:
        tape.append(numbers[low:high])
    assert tape[3:5].tolist() == [3, 4]
    tape.append(numbers[900:])
    assert tape.shape == (1000,)
    for low, high in [(0, 1000), (0, 0), (999, 1000), (17, 950), (990, 2000)]:
        part = tape[low:high]
        assert part.dtype == np.int32
        assert part.tolist() == numbers[low:high].tolist()
        part += 1  # it is the caller's


def test_values_are_stored_in_the_type_that_was_asked_for(tape: Tape):
    tape.append(np.array([1, 2**31 - 1], np.int64))
    assert tape[0:2].tolist() == [1, 2**31 - 1]


def test_no_file_has_a_name_and_none_is_left(tape: Tape, tmp_path: Path):
    tape.append(np.zeros(1000, np.int32))
    assert list(tmp_path.iterdir()) == []  # so not even a killed process leaves one
    tape.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_folder_and_the_remedy(tape: Tape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tape._file, "write", full)
    with pytest.raises(CellsError, match=rf"cells\.csv .*{tmp_path}: No space left.*set TMPDIR"):
        tape.append(np.zeros(10, np.int32))


def test_room_is_looked_at_before_the_work(monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: usage(100, 80, 20))
    check_room(20, "cells.csv")
    with pytest.raises(CellsError, match=r"cells\.csv needs a temporary file of 21 bytes .* has 20 bytes free.*TMPDIR"):
        check_room(21, "cells.csv")


def test_no_folder_at_all_is_said(monkeypatch: pytest.MonkeyPatch):
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(CellsError, match=r"cells\.csv needs a temporary file, and no folder .* Set TMPDIR"):
        check_room(1, "cells.csv")
