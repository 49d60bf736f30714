from pathlib import Path

import pytest

from scgpt_infer import EmbedOptions, output
from scgpt_infer.output import check_disk, destination
from scgpt_infer.preview import Disk
from scgpt_infer.writers import Target
from scgpt_runtime.errors import OptionError, OutputError

PLAIN = EmbedOptions()


@pytest.fixture
def cells(tmp_path) -> Path:
    path = tmp_path / "cells.h5ad"
    path.touch()
    return path


def test_links_are_followed_so_that_they_stay_links(cells, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.npy").symlink_to(tmp_path / "elsewhere" / "x.npy")
    assert destination(cells, tmp_path / "link.npy", PLAIN) == tmp_path / "elsewhere" / "x.npy"
    (tmp_path / "link.h5ad").symlink_to(cells)
    assert destination(tmp_path / "link.h5ad", None, EmbedOptions(in_place=True)) == cells


def test_the_input_is_refused_as_output_by_any_of_its_names(cells, tmp_path):
    (tmp_path / "soft.h5ad").symlink_to(cells)
    (tmp_path / "hard.h5ad").hardlink_to(cells)
    for name in ("cells.h5ad", "soft.h5ad", "hard.h5ad", "../" + tmp_path.name + "/cells.h5ad"):
        with pytest.raises(OutputError, match=r"is an input file.*--in-place.*in_place"):
            destination(cells, tmp_path / name, PLAIN)


def test_no_output_is_told_what_to_name(cells):
    with pytest.raises(OutputError, match=r"\.parquet.*in_place"):
        destination(cells, None, PLAIN)


def test_a_missing_folder_is_named(cells, tmp_path):
    with pytest.raises(OutputError, match=r"folder .*missing of the output x\.npy does not exist"):
        destination(cells, tmp_path / "missing" / "x.npy", PLAIN)


@pytest.mark.parametrize("taken", ["x.npy", "x.cells.txt", "x.npy.json"])
def test_a_name_that_is_taken_by_a_folder_is_refused(cells, tmp_path, taken):
    (tmp_path / taken).mkdir()
    with pytest.raises(OutputError, match="is not a file"):
        destination(cells, tmp_path / "x.npy", PLAIN)


@pytest.mark.parametrize("name", ["x.zarr", "x.dataset"])
def test_a_folder_that_is_not_ours_is_refused_before_the_work(cells, tmp_path, name):
    assert destination(cells, tmp_path / name, PLAIN) == tmp_path / name
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").touch()
    with pytest.raises(OutputError, match="exists already, and scgpt-infer did not write it"):
        destination(cells, tmp_path / name, PLAIN)


def test_a_folder_that_cannot_be_written_in_is_named(cells, tmp_path, monkeypatch):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="cannot be written in: Permission denied"):
        destination(cells, tmp_path / "x.npy", PLAIN)


def test_a_write_protected_file_is_not_replaced(cells, monkeypatch):
    monkeypatch.setattr(output.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="write-protected"):
        destination(cells, None, EmbedOptions(in_place=True))


def test_options_that_do_not_fit_the_output_are_refused(cells, tmp_path):
    with pytest.raises(OptionError, match="obs_only"):
        destination(cells, tmp_path / "x.csv", EmbedOptions(obs_only=True))
    with pytest.raises(OptionError, match="another output"):
        destination(cells, tmp_path / "x.h5ad", EmbedOptions(in_place=True))
    assert destination(cells, cells, EmbedOptions(in_place=True)) == cells


def test_looking_leaves_nothing_behind(cells, tmp_path):
    destination(cells, tmp_path / "x.npy", PLAIN)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_a_disk_without_room_is_told_what_is_needed_and_free(tmp_path, monkeypatch):
    target = Target(tmp_path / "x.npy", 1_000_000, 512, "X_scGPT", lambda start, stop: [])
    assert output.disk(target).needed > 1_000_000 * 512 * 4
    monkeypatch.setattr(output, "disk", lambda target, parts: Disk(2_100_000_000, 300_000_000))
    with pytest.raises(OutputError, match=r"about 2\.1 GB on the disk and 300\.0 MB are free"):
        check_disk(target)
