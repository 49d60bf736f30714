"""A folder appears whole or not at all."""

import pytest

from scgpt_infer.writers.folder import published
from scgpt_runtime.errors import OutputError


def test_it_has_its_name_when_it_is_whole(tmp_path):
    with published(tmp_path / "out") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text("x")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "below" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="could not be written"), published(tmp_path / "out") as folder:
        folder.write_text("a folder is no file")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"), published(tmp_path / "out"):
        pass
    with pytest.raises(OutputError, match="does not exist"), published(tmp_path / "no" / "out"):
        pass
