"""One merge at a time makes an output, and what killed ones left goes; what others are at work on stays."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from scgpt_infer import EmbedOptions
from scgpt_infer.api import embed_file
from scgpt_infer.ledger.lock import Lock
from scgpt_infer.merging import merge
from scgpt_infer.spans import Shard
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OutputError

CPU = EmbedOptions(provider="cpu", threads=1)

_MERGE = """
import sys
from pathlib import Path
from scgpt_infer.merging import merge
def told(done, total):
    print(done, flush=True)
    sys.stdin.readline()
merge([Path(folder) for folder in sys.argv[2:]], Path(sys.argv[1]), progress=told)
"""


@contextmanager
def merging(output, folders):
    """A merge in another process, which waits when its first part is written."""
    command = [sys.executable, "-c", _MERGE, str(output), *map(str, folders)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "1024\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def shards(toy_h5ad, toy_model, tmp_path) -> list[Path]:
    """The parts of two shards, a range each."""
    output = tmp_path / "shards" / "x.npy"
    output.parent.mkdir()
    for index in range(2):
        embed_file(toy_h5ad, output, toy_model, CPU, work=WorkOptions(shard=Shard(index, 2)))
    return [output.with_name("x.npy.parts")]


@pytest.mark.parametrize("suffix", [".npy", ".h5ad", ".zarr", ".dataset"])
def test_what_a_killed_merge_left_goes_with_the_next_one(shards, tmp_path, suffix):
    output, others = tmp_path / f"x{suffix}", set(tmp_path.iterdir())
    with merging(output, shards):
        pass
    left = set(tmp_path.iterdir()) - others
    assert len(left) >= 3
    assert all(path.name.startswith(".") for path in left)
    merge(shards, output)
    assert not left & set(tmp_path.iterdir())
    assert not list(tmp_path.glob(".*"))


def test_of_two_merges_into_one_output_the_second_is_refused_and_sweeps_nothing(shards, tmp_path):
    output = tmp_path / "x.npy"
    with merging(output, shards) as process:
        with pytest.raises(OutputError, match=f"Another process is at work.*process {process.pid} on"):
            merge(shards, output)
        process.communicate("\n" * 5)
        assert process.returncode == 0
    merge(shards, tmp_path / "undisturbed.npy")
    assert output.read_bytes() == (tmp_path / "undisturbed.npy").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_writes_the_same_output_keeps_its_files(shards, tmp_path):
    output, unfinished = tmp_path / "x.npy", tmp_path / ".x.npy.abcdefgh.part"
    unfinished.write_text("at work")
    with Lock.take(tmp_path / "x.npy.parts" / "lock"):
        merge(shards, output)
    assert unfinished.exists()
    merge(shards, output)
    assert not unfinished.exists()


def test_a_run_leaves_the_files_of_a_merge_that_is_at_work(shards, toy_h5ad, toy_model, tmp_path):
    output = tmp_path / "x.npy"
    with merging(output, shards):
        at_work = set(tmp_path.glob(".x.npy.*"))
        embed_file(toy_h5ad, output, toy_model, CPU)
        assert at_work <= set(tmp_path.glob(".x.npy.*"))
    embed_file(toy_h5ad, output, toy_model, CPU)
    assert not list(tmp_path.glob(".x.npy.*.part"))


def test_a_format_that_there_is_not_is_told_before_anything_else(tmp_path):
    with pytest.raises(OutputError, match=r"x\.xyz has the suffix '\.xyz'"):
        merge([tmp_path / "nowhere"], tmp_path / "x.xyz")
