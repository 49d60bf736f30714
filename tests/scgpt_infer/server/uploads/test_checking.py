"""Whatever the process that looks at a file does, its caller gets an answer, and it gets nothing of its caller."""

import asyncio
import gzip
import io
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scgpt_infer.server.refusals import Broken, NoRoom, Unprocessable
from scgpt_infer.server.uploads import Checked, Chosen, Limits, checked, checking
from scgpt_infer.tied import program

TABLE = b"cell,CD3D,CD8A\nAAAC,1,2\nAAAG,0,3\n"


HERE = f"import sys\nsys.path[:] = {sys.path!r}"


def does(monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    """Have the process do something else."""
    monkeypatch.setattr(checking, "program", lambda *told: deed)


def refused(path: Path, name: str, limits: Limits | None = None) -> str:
    with pytest.raises(Unprocessable) as caught:
        asyncio.run(checked(path, name, limits))
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "upload.bin"
    path.write_bytes(TABLE)
    return path


def test_tables_pass(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(path.parent)
    assert asyncio.run(checked(Path(path.name), "a.csv")) == Checked(".csv", 2, 2)
    path.write_bytes(gzip.compress(TABLE[:20]) + gzip.compress(TABLE[20:]))
    assert asyncio.run(checked(path, "a.tsv.gz")) == Checked(".tsv.gz", 2, 2)


def test_what_its_owner_says_of_a_file_holds_when_it_is_looked_at(path: Path):
    path.write_bytes(b"x,a,b,c\nu,1,2,3\nv,0,3,4\n")
    assert asyncio.run(checked(path, "a.csv", None, Chosen(cells_in="columns"))) == Checked(".csv", 3, 2)
    for chosen, why in ((Chosen(modality="atac"), "modal"), (Chosen(cells_in="rows", gene_col="symbol"), "symbol")):
        with pytest.raises(Unprocessable, match=why):
            asyncio.run(checked(path, "a.csv", None, chosen))


def test_a_table_that_is_a_bomb(path: Path):
    path.write_bytes(gzip.compress(TABLE + b"AAAT,0,0\n" * 2_000_000, 1))
    limits = Limits(unpacked_floor=2**20, ratio=20)
    assert "unpacks to more than" in refused(path, "a.csv.gz", limits)


def test_a_bomb_in_a_bomb_is_no_text(path: Path):
    path.write_bytes(gzip.compress(gzip.compress(bytes(2**24))))
    assert "no text" in refused(path, "a.csv.gz")


def test_a_line_without_end(path: Path):
    path.write_bytes(b"cell," + b"CD3D," * 500_000)
    assert "has more than 1.0 MB" in refused(path, "a.csv", Limits(line_bytes=10**6))


def test_too_many_lines(path: Path):
    assert "has more than 2 lines" in refused(path, "a.csv", Limits(cells=1, genes=1))


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (b"", "is empty"),
        (b"cell,CD3D\nAAAC,1,2\nAAAG,1\n", "fields"),
        (b"cell,CD3D,CD8A\nAAAC,1,__import__('os')\n", "expected a number"),
        (gzip.compress(TABLE, mtime=0)[:-12], "cut short or damaged"),
        (b"\x1f\x8b" + bytes(100), "cut short or damaged"),
    ],
)
def test_tables_that_are_none(path: Path, held: bytes, why: str):
    path.write_bytes(held)
    message = refused(path, "cells of mine.csv")
    assert why in message
    assert "cells of mine.csv" in message


def test_pickles_are_of_no_format(path: Path):
    packed = io.BytesIO()
    np.savez(packed, a=np.array([{"a": 1}], object))
    path.write_bytes(packed.getvalue())
    assert "of no format that is taken" in refused(path, "a.npz")
    assert "is no text" in refused(path, "a.csv")
    assert "not an HDF5 file" in refused(path, "a.h5ad")
    path.write_bytes(pickle.dumps(["CD3D"]))
    assert "no format" in refused(path, "a.pkl")
    assert "CD3D" not in refused(path, "a.csv")


def test_a_zip_is_not_unpacked(path: Path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros", bytes(2**24))
    assert "not an HDF5 file" in refused(path, "a.h5ad")
    assert "is no text" in refused(path, "a.csv")


@pytest.mark.parametrize(
    "name",
    [
        "../a.csv",
        "/etc/a.csv",
        "..\\a.csv",
        ".csv",
        ".hidden.csv",
        "a\0.csv",
        "a\n.csv",
        "a\u202e.csv",
        "",
        "a" * 300 + ".csv",
        "a.csv/",
    ],
)
def test_names_that_are_paths_or_cannot_be_shown(path: Path, name: str):
    refused(path, name)


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "broke off (SIGSEGV)"),
        ("import os; os._exit(3)", "broke off (exit code 3)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "took more memory than there is"),
        ("print('x' * 200_000, flush=True); import time; time.sleep(60)", "took more memory"),
        ("print('{}} [1]')", "broke off (exit code 0)"),
    ],
)
def test_a_process_that_breaks_off(path: Path, monkeypatch: pytest.MonkeyPatch, deed: str, why: str):
    does(monkeypatch, f"print('{{\"begun\": true}}', flush=True)\n{deed}")
    assert why in refused(path, "a.csv")


def test_a_process_that_does_not_end(path: Path, monkeypatch: pytest.MonkeyPatch):
    does(monkeypatch, "import time\ntime.sleep(60)")
    assert "took longer than 1 s" in refused(path, "a.csv", Limits(seconds=0.5, bytes_per_second=100))


def test_a_process_that_does_not_start(path: Path, monkeypatch: pytest.MonkeyPatch):
    does(monkeypatch, "import there_is_no_such_module")
    with pytest.raises(Broken):
        asyncio.run(checked(path, "a.csv"))


def test_a_full_disk_is_not_the_clients_fault(path: Path, monkeypatch: pytest.MonkeyPatch):
    deed = (
        "import errno, scgpt_infer.server.uploads.lines as lines\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'full')\n"
        "lines.check_lines = full\n"
    )
    monkeypatch.setattr(checking, "program", lambda *told: program(*told, before=f"{HERE}\n{deed}"))
    with pytest.raises(NoRoom):
        asyncio.run(checked(path, "a.csv"))


def test_the_process_has_limits_and_no_secrets(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_KEY", "abc")
    deed = (
        "import json, os, resource\n"
        "from scgpt_infer.server.confining import confine\n"
        "confine(2**31, 2**20, cpu_seconds=5.0)\n"
        "def soft(name): return resource.getrlimit(getattr(resource, name))[0]\n"
        "told = ['SECRET_KEY' in os.environ, soft('RLIMIT_AS'), soft('RLIMIT_CORE'), soft('RLIMIT_CPU')]\n"
        "print(json.dumps(dict(begun=True, error=json.dumps(told))))"
    )
    does(monkeypatch, f"{HERE}\n{deed}")
    told = refused(path, "a.csv")
    assert told == "[false, 2147483648, 0, 6]"


def test_a_caller_that_leaves_ends_the_process(path: Path, monkeypatch: pytest.MonkeyPatch):
    does(monkeypatch, "import os, time\nprint(os.getpid(), file=open('pid', 'w'), flush=True)\ntime.sleep(60)")

    async def leave() -> int:
        task = asyncio.create_task(checked(path, "a.csv"))
        while not (pid := next((one.read_text() for one in path.parent.glob(".looking-*/pid")), "")):
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int(pid)

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(leave()), 0)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
