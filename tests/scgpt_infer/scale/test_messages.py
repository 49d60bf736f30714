"""An error of a worker ends the command as the same error of one process would."""

import errno

import pytest

from scgpt_infer.scale.messages import Failed
from scgpt_runtime.errors import CellsError, InternalError


def test_an_error_of_ours_keeps_its_class_and_words() -> None:
    error = Failed.of(CellsError("cells.h5ad has no cells.")).error("process 7 on there")
    assert type(error) is CellsError
    assert str(error) == "process 7 on there: cells.h5ad has no cells."


def test_a_class_that_adds_words_adds_them_once() -> None:
    error = Failed.of(InternalError("Row 5 came twice.")).error()
    assert isinstance(error, InternalError)
    assert str(error).count("This is a bug in scgpt-infer") == 1


def test_a_full_disk_is_told_as_one() -> None:
    error = Failed.of(OSError(errno.ENOSPC, "No space left on device", "/parts/x.npz")).error()
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert "/parts/x.npz" in str(error)


@pytest.mark.parametrize("error", [ValueError("bad"), KeyError("x")])
def test_anything_else_is_a_bug(error: Exception) -> None:
    found = Failed.of(error).error()
    assert found.exit_code == 1  # type: ignore[attr-defined]
    assert type(error).__name__ in str(found)
