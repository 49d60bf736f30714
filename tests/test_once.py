import pytest

from once import made_once


def test_it_is_made_once_and_again_where_that_failed(tmp_path_factory):
    made = []

    def fails(folder):
        (folder / "half").touch()
        raise OSError("no room")

    def make(folder):
        assert list(folder.iterdir()) == []
        (folder / "whole").touch()
        made.append(folder)

    with pytest.raises(OSError, match="no room"):
        made_once(tmp_path_factory, "example", fails)
    for _ in range(2):
        folder = made_once(tmp_path_factory, "example", make)
        assert [path.name for path in folder.iterdir()] == ["whole"]
    assert made == [folder]
