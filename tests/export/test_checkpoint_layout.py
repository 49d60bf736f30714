"""Checkpoint files are found in folders and zips as people download them, and zip names cannot lead out."""

import stat
import zipfile
from pathlib import Path

import pytest
import torch

from scgpt_export.checkpoint import load
from scgpt_export.layout import open_files
from scgpt_runtime.errors import CheckpointError

SMALL = Path(__file__).parents[1] / "golden" / "small_checkpoint"
NAMES = ("args.json", "vocab.json", "best_model.pt")


def zip_of(path: Path, prefix: str = "", extra: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in NAMES:
            archive.write(SMALL / name, prefix + name)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("prefix", ["", "scGPT_human/"])
def test_a_zip_loads_as_its_folder_does(tmp_path: Path, prefix: str) -> None:
    litter = {"__MACOSX/scGPT_human/._best_model.pt": b"x", "scGPT_human/.DS_Store": b"x"} if prefix else {}
    checkpoint, expected = load(zip_of(tmp_path / "model.zip", prefix, litter)), load(SMALL)
    assert checkpoint.source == expected.source
    assert checkpoint.config == expected.config
    assert all(torch.equal(value, expected.state[key]) for key, value in checkpoint.state.items())


def test_a_zip_serves_as_base(tmp_path: Path) -> None:
    assert load(SMALL / "best_model.pt", base=zip_of(tmp_path / "model.zip")).tokens == load(SMALL).tokens


@pytest.mark.parametrize("name", ["../args.json", "/args.json", "a/../../vocab.json", "..\\vocab.json", "C:vocab.json"])
def test_names_that_lead_out_of_the_zip_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    path = zip_of(tmp_path / "inner" / "model.zip")
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo("x")
        member.filename = name
        archive.writestr(member, b"{}")
    with pytest.raises(CheckpointError, match="leads out of the zip"):
        load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["inner"]


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.pt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(CheckpointError, match=r"symbolic link 'link.pt'"):
        load(path)


@pytest.mark.parametrize("kept", [0, 100, 100_000])
def test_a_truncated_zip_is_refused(tmp_path: Path, kept: int) -> None:
    path = zip_of(tmp_path / "model.zip")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a zip that can be read whole"):
        load(path)


def test_a_zip_with_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "model.zip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a zip that can be read whole"):
        load(path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no weights in .*expected best_model.pt"):
        load(tmp_path)


def test_the_weights_file_is_best_model_then_model_then_the_only_one(tmp_path: Path) -> None:
    def found() -> str | None:
        with open_files(tmp_path) as files:
            return files.weights.name if files.weights else None

    (tmp_path / "epoch3.pt").touch()
    assert found() == "epoch3.pt"
    (tmp_path / "epoch4.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"epoch3.pt, epoch4.safetensors"):
        found()
    (tmp_path / "model.pt").touch()
    assert found() == "model.pt"
    (tmp_path / "best_model.pt").touch()
    assert found() == "best_model.pt"
