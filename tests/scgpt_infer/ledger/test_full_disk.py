"""A disk that is full at any step of a run: it says so, leaves nothing half, and the same run goes on with room."""

import builtins
import errno
import io
import os
import random
from pathlib import Path

import numpy as np
import pytest

from scgpt_infer import EmbedOptions
from scgpt_infer.api import embed_file
from scgpt_infer.job import parts_bytes
from scgpt_infer.ledger.parts import Kept, encode
from scgpt_infer.ledger.plan import Plan
from scgpt_infer.writers.sink import Column, Part, Table
from scgpt_runtime.errors import OutputError

STEPS = 40


class Disk:
    """Counts what is done to files of one folder, and has no room left from the step that is named."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.steps, self.full_at = folder, 0, -1

    def step(self) -> None:
        self.steps += 1
        if 0 <= self.full_at < self.steps:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _File(io.FileIO):
    """A file of the disk; a write that fails has written half."""

    disk: Disk

    def write(self, data):
        try:
            self.disk.step()
        except OSError:
            super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
            raise
        return super().write(data)


@pytest.fixture
def disk(tmp_path, monkeypatch) -> Disk:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder)
    real = {name: getattr(os, name) for name in ("fsync", "pwrite")}

    def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        inside = isinstance(file, (str, os.PathLike)) and Path(file).is_relative_to(folder)
        if not inside or not set(mode) & set("wax+"):
            return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _File(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.disk = disk
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def counted(name):
        def call(*words):
            disk.step()
            return real[name](*words)

        return call

    for module in (io, builtins):
        monkeypatch.setattr(module, "open", opened)
    for name in real:
        monkeypatch.setattr(os, name, counted(name))
    return disk


_open = io.open


def contents(folder: Path) -> dict[str, bytes]:
    """Files of the disk, but for the records, which hold times."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".json"}


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_a_disk_that_is_full_at_any_step_leaves_what_can_be_gone_on_with(disk, toy_h5ad, toy_model, suffix):
    output = disk.folder / f"x{suffix}"

    def run():
        disk.steps = 0
        embed_file(toy_h5ad, output, toy_model, EmbedOptions(provider="cpu"))

    run()
    steps, wanted = disk.steps, contents(disk.folder)
    assert steps > 10
    for full_at in sorted(random.Random(3).sample(range(steps), min(steps, STEPS))):
        for path in disk.folder.iterdir():
            path.unlink()
        disk.full_at = full_at
        with pytest.raises(OutputError, match="the disk is full"):
            run()
        left = contents(disk.folder)
        assert left.items() <= wanted.items(), full_at
        assert not left or output.name in left, full_at
        disk.full_at = -1
        run()
        assert contents(disk.folder) == wanted


def test_room_is_asked_for_all_that_parts_hold():
    plan = Plan(
        *(None, 1024, 1024, 64, "float16", "X", "", "multimodal", {}),
        columns=(Column("confidence"),),
        matrices=("nonzero",),
        tables=(Table("atac", "predicted", 300),),
    )
    numbers = np.ones((1024, 300), np.float32)
    given = {"columns": {"confidence": numbers[:, 0]}, "matrices": {"nonzero": numbers[:, :64]}}
    part = Part(0, numbers[:, :64], ("",) * 1024, **given, tables={"atac_predicted": numbers})
    needed = len(encode(Kept(part, tuple(f"cell-{row}" for row in range(1024))), plan.dtype))
    assert needed <= parts_bytes(plan, 1024) < 1.1 * needed
