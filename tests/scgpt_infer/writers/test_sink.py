"""What holds for every format: no partial file under the final name, whatever ends the writing."""

import errno
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from scgpt_infer.writers import WRITERS, Part, Target, writer_of
from scgpt_infer.writers.sink import output_errors
from scgpt_runtime.errors import OutputError

SUFFIXES = sorted(WRITERS)
FOLDERS = [suffix for suffix in SUFFIXES if WRITERS[suffix].ours]
FILES = [suffix for suffix in SUFFIXES if suffix not in FOLDERS]
PART = Part(0, np.ones((100, 8), np.float32), ("",) * 100)


def target(path, source=None) -> Target:
    def names(start, stop):
        return [f"cell-{i}" for i in range(start, stop)]

    return Target(path, 100, 8, "X_scGPT", names, genes=("A",), source=source, joinids=np.arange)


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_the_job_nothing_is_left_and_an_older_file_stays(tmp_path, suffix, end):
    path = tmp_path / f"out{suffix}"
    path.write_text("older")

    def begin():
        with writer_of(path).open(target(path)) as sink:
            sink.write(PART)
            raise end

    with pytest.raises(end):
        begin()
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_text() == "older"


@pytest.mark.parametrize("suffix", FOLDERS)
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_the_job_an_older_folder_stays(tmp_path, suffix, end):
    path = tmp_path / f"out{suffix}"

    def begin(parts):
        with writer_of(path).open(target(path)) as sink:
            sink.write(PART)
            if not parts:
                raise end
            sink.commit({"a": 1})

    begin([PART])
    older = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(end):
        begin([])
    assert os.listdir(tmp_path) == [path.name]
    assert older == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_leaving_without_a_commit_leaves_nothing(tmp_path, suffix):
    with writer_of(tmp_path / f"out{suffix}").open(target(tmp_path / f"out{suffix}")) as sink:
        sink.write(PART)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_until_the_commit_the_final_name_does_not_exist(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with writer_of(path).open(target(path)) as sink:
        sink.write(PART)
        assert not path.exists()
        sink.commit({"a": 1})
        assert path.exists()
    assert path.exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_new_file_has_the_permissions_of_a_new_file(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with writer_of(path).open(target(path)) as sink:
        sink.write(PART)
        sink.commit({"a": 1})
    plain = tmp_path / "plain"
    plain.mkdir() if suffix in FOLDERS else plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_at_any_byte_is_an_error_and_leaves_nothing(tmp_path, suffix, toy_h5ad):
    """A limit on the size of files stands for the full disk; it strikes copies, rows and closing in turn."""
    out = tmp_path / "out"
    out.mkdir()
    script = f"""
        import os, resource, shutil
        from pathlib import Path
        import numpy as np
        from scgpt_infer.writers import Part, Target, writer_of
        from scgpt_runtime.errors import OutputError

        source = Path({str(toy_h5ad)!r}) if {suffix!r} == ".h5ad" else None
        path = Path({str(out / f"out{suffix}")!r})
        size = source.stat().st_size if source else 0
        names = lambda start, stop: [f"cell-{{i}}" for i in range(start, stop)]
        target = Target(path, 1100, 8, "X_scGPT", names, source=source, joinids=np.arange)
        starts = range(0, 1100, 100)
        limits = [0, 100, size // 2, *range(max(0, size - 4000), size + 220_000, 3999)]
        failed = written = 0
        for limit in limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                with writer_of(path).open(target) as sink:
                    for start in starts:
                        sink.write(Part(start, np.random.rand(100, 8).astype(np.float32), ("",) * 100))
                    sink.commit({{f"key{{i}}": "x" * 50 for i in range(20)}})
                written += 1
                assert path.exists()
            except OutputError as error:
                failed += 1
                assert "could not be written" in str(error), error
                assert not os.listdir(path.parent), limit
            for file in path.parent.iterdir():
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        print(failed, written)
        """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    failed, written = map(int, ended.stdout.split())
    assert failed >= 3
    assert written >= 3


def test_a_name_that_is_as_long_as_names_get_can_be_written(tmp_path):
    path = tmp_path / ("n" * 240 + ".npy")
    with writer_of(path).open(target(path)) as sink:
        sink.write(PART)
        sink.commit({"a": 1})
    assert path.exists()


def test_an_unknown_suffix_is_told_which_are_known(tmp_path):
    with pytest.raises(
        OutputError, match=r"'\.xlsx'; expected one of \.census, \.csv, \.dataset, \.h5ad, \.json.*\.parquet, \.zarr"
    ):
        writer_of(tmp_path / "x.xlsx")
    with pytest.raises(OutputError, match=r"\(none\)"):
        writer_of(tmp_path / "x")


def test_an_error_of_writing_does_not_say_that_nothing_is_left(tmp_path):
    """Whoever writes knows what of it stays, such as parts that are done."""
    with pytest.raises(OutputError, match=r"the disk is full") as ended, output_errors(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "left behind" not in str(ended.value)
