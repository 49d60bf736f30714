"""What goes wrong while a zip is unpacked is told, with what to do, and leaves nothing behind."""

import errno
import shutil
import zipfile
from pathlib import Path

import pytest

import toy_bundle as toy
from scgpt_runtime.archive import unpack
from scgpt_runtime.errors import BundleError


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    folder = toy.write(tmp_path / "toy")
    with zipfile.ZipFile(tmp_path / "toy.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(found for found in folder.rglob("*") if found.is_file()):
            archive.write(path, str(path.relative_to(folder)))
    return tmp_path / "toy.zip"


def test_a_compressed_stream_that_is_damaged_is_an_error_that_says_what_to_do(zipped: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(zipped) as archive:
        entry = archive.getinfo("vocab.json")
    content = bytearray(zipped.read_bytes())
    start = entry.header_offset + 30 + len(entry.filename)
    content[start : start + entry.compress_size] = b"\xff" * entry.compress_size  # no valid kind of block
    zipped.write_bytes(content)
    with pytest.raises(BundleError, match=r"cannot be read as a zip.*Take a fresh copy"):
        unpack(zipped, tmp_path / "cache" / "bundle")
    assert not list((tmp_path / "cache").iterdir())


def test_a_disk_that_fills_up_is_an_error_that_names_the_folder(
    zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match=r"could not be unpacked to .*cache: .*No space left.*Make room there"):
        unpack(zipped, tmp_path / "cache" / "bundle")
    assert not list((tmp_path / "cache").iterdir())


def test_a_place_where_no_folder_can_be_made_is_named(zipped: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"No folder can be made in .*file"):
        unpack(zipped, tmp_path / "file" / "bundle")


def test_another_process_that_was_faster_is_no_error(
    zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        shutil.copytree(self, target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    unpack(zipped, tmp_path / "cache" / "bundle")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["bundle"]
