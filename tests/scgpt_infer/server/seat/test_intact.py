"""Files that a model runs from: one that is written into is found out, one that is replaced is not its business."""

import os

import pytest

from scgpt_infer.server.seat.intact import Intact
from scgpt_runtime.errors import BundleChangedError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"0" * 100)
    os.utime(path, ns=(1, 1))
    return path


def test_nothing_happens_while_nothing_happens(file):
    with Intact([file]) as intact:
        intact.check()
        file.read_bytes()
        intact.check()


@pytest.mark.parametrize("what", ["bytes", "end"])
def test_who_writes_into_it_is_found_out(file, what):
    with Intact([file]) as intact:
        with file.open("r+b") as stream:
            stream.write(b"1") if what == "bytes" else stream.truncate(50)
        with pytest.raises(BundleChangedError, match=r"weights\.bin"):
            intact.check()


def test_another_file_in_its_place_changes_nothing_for_who_has_it_open(file):
    with Intact([file]) as intact:
        new = file.with_suffix(".new")
        new.write_bytes(b"1" * 200)
        new.rename(file)
        intact.check()
