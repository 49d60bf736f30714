import pytest

from scgpt_runtime.remembered import Remembered


def test_a_finding_is_recalled_for_what_it_depends_on_and_nothing_else(tmp_path):
    Remembered(tmp_path, "proofs", {"chip": "a", "n": (1, 2)}).keep(0.25)
    assert Remembered(tmp_path, "proofs", {"chip": "a", "n": (1, 2)}).recall() == 0.25
    assert Remembered(tmp_path, "proofs", {"chip": "b", "n": (1, 2)}).recall() is None
    assert Remembered(tmp_path, "other", {"chip": "a", "n": (1, 2)}).recall() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"found": 1}', '{"depends_on": {}, "found": 1}'])
def test_a_damaged_finding_is_none(tmp_path, text):
    remembered = Remembered(tmp_path, "proofs", {"chip": "a"})
    remembered.keep(1)
    (path,) = (tmp_path / "proofs").iterdir()
    path.write_text(text)
    assert remembered.recall() is None


def test_without_a_folder_nothing_is_remembered_and_nothing_fails(tmp_path):
    nowhere = Remembered(None, "proofs", {})
    nowhere.keep(1)
    assert nowhere.recall() is None
    (tmp_path / "file").write_text("")
    Remembered(tmp_path / "file", "proofs", {}).keep(1)
    assert Remembered(tmp_path / "file", "proofs", {}).recall() is None
