"""Machine code is cached wherever that is possible, and its absence stops nobody."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import scgpt_runtime

PACKAGE = Path(scgpt_runtime.__file__).parent

TINY = """
from scgpt_runtime.jit import cached

@cached
def twice(x):
    return 2 * x
"""
CALL = """
import tiny
print(tiny.twice(21), sum(tiny.twice.stats.cache_hits.values()), tiny.twice.stats.cache_path)
"""
NO_USER = """
import os, pwd
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a module of one cached function, its own temporary folder, and nowhere beside it to cache."""
    for name in ("code", "tmp", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "code/tiny.py").write_text(TINY)
    (tmp_path / "code/__pycache__").write_text("A file where numba would want a folder; it stops even root.")
    return tmp_path


def python(place: Path, code: str, **environment: str | None) -> str:
    """Run code in a fresh process without a usable home; returns what it printed."""
    path = os.pathsep.join([str(place / "code"), str(PACKAGE.parent)])
    said = {"PYTHONPATH": path, "HOME": "/proc/nonexistent", "TMPDIR": str(place / "tmp")} | environment
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    merged = {k: v for k, v in (kept | said).items() if v is not None}
    command = [sys.executable, "-B", "-W", "error", "-c", code]
    done = subprocess.run(command, env=merged, cwd=place / "work", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list((place / "work").iterdir())
    return done.stdout.strip()


def private(place: Path) -> Path:
    return place / "tmp" / f"scgpt-infer-{os.geteuid()}"


def test_the_cache_is_kept_from_process_to_process(place) -> None:
    (place / "code/__pycache__").unlink()
    beside = str(place / "code/__pycache__")
    assert python(place, CALL) == f"42 0 {beside}"
    assert python(place, CALL) == f"42 1 {beside}"
    assert not private(place).exists()


def test_without_a_writable_place_it_lies_in_a_private_temporary_folder(place) -> None:
    first, second = python(place, CALL), python(place, CALL)
    assert first.startswith(f"42 0 {private(place)}/")
    assert second.startswith(f"42 1 {private(place)}/")
    assert private(place).stat().st_mode & 0o777 == 0o700


def test_an_unknown_user_without_a_home_leaves_no_folder_where_it_works(place) -> None:
    assert python(place, NO_USER + CALL, HOME=None).startswith(f"42 0 {private(place)}/")


def test_the_folder_that_the_user_names_wins(place) -> None:
    named = place / "named"
    assert python(place, CALL, NUMBA_CACHE_DIR=str(named)).startswith(f"42 0 {named}/")
    assert python(place, NO_USER + CALL, HOME=None, NUMBA_CACHE_DIR=str(named)).startswith(f"42 1 {named}/")
    assert not private(place).exists()


def test_what_an_image_brings_in_a_folder_that_cannot_be_written_is_used(place) -> None:
    named = place / "named"
    python(place, CALL, NUMBA_CACHE_DIR=str(named))
    before = {path: path.read_bytes() for path in named.rglob("*") if path.is_file()}
    # Root may write everywhere, so the way in which numba finds out is barred instead.
    sealed = f"""
import tempfile
real = tempfile.TemporaryFile
def temporary(*args, dir=None, **more):
    if str(dir).startswith({str(named)!r}):
        raise PermissionError(dir)
    return real(*args, dir=dir, **more)
tempfile.TemporaryFile = temporary
"""
    said = python(place, sealed + CALL, NUMBA_CACHE_DIR=str(named))
    assert said.startswith(f"42 1 {private(place)}/")
    assert private(place).stat().st_mode & 0o777 == 0o700
    assert {path: path.read_bytes() for path in named.rglob("*") if path.is_file()} == before
    assert [path.name for path in (place / "tmp").iterdir()] == [private(place).name]


def open_to_all(folder: Path) -> None:
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)


def a_link(folder: Path) -> None:
    target = folder.with_name("elsewhere")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


def a_file(folder: Path) -> None:
    folder.write_text("")


@pytest.mark.parametrize("spoil", [open_to_all, a_link, a_file])
def test_a_temporary_folder_that_others_could_write_is_not_trusted(place, spoil) -> None:
    spoil(private(place))
    assert python(place, CALL) == "42 0 None"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_temporary_folder_of_somebody_else_is_not_trusted(place) -> None:
    private(place).mkdir(mode=0o700)
    os.chown(private(place), 12345, 12345)
    assert python(place, CALL) == "42 0 None"


def test_without_a_temporary_folder_nothing_is_cached_and_all_works(place) -> None:
    no_folder = "import tempfile\ndef gettempdir():\n    raise FileNotFoundError\ntempfile.gettempdir = gettempdir\n"
    assert python(place, no_folder + CALL) == "42 0 None"


def test_damaged_cache_files_cost_a_compilation_only(place) -> None:
    python(place, CALL)
    files = list(private(place).rglob("*.nb?"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:40])
        assert python(place, CALL).startswith("42 0 ")
        assert python(place, CALL).startswith("42 1 ")


def test_a_cache_that_cannot_be_written_any_more_costs_nothing(place) -> None:
    spoil = f"import tiny, shutil; shutil.rmtree({str(private(place))!r}); open({str(private(place))!r}, 'w').close()\n"
    assert python(place, spoil + CALL).startswith("42 0 ")


def test_numba_is_left_as_it_was_for_others(place) -> None:
    code = "import os, tiny, numba.core.config as c; print(repr(c.CACHE_DIR), 'NUMBA_CACHE_DIR' in os.environ)"
    assert python(place, code) == "'' False"


def test_without_compilation_it_is_the_plain_function(place) -> None:
    assert python(place, "import tiny; print(tiny.twice(21))", NUMBA_DISABLE_JIT="1") == "42"


@pytest.mark.slow
def test_the_tokenizer_runs_from_a_package_that_cannot_be_written(place) -> None:
    shutil.copytree(PACKAGE, place / "code/scgpt_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "code/scgpt_runtime/__pycache__").write_text("")
    code = """
import numpy as np
import scgpt_runtime
from scgpt_runtime.kernels import bins_from_draws, tokenize_rows
print(scgpt_runtime.__file__, tokenize_rows.stats.cache_path)
print(bins_from_draws(np.array([1, 2], np.float32), np.zeros(2), np.linspace(0, 1, 50)))
"""
    at, bins = python(place, NO_USER + code, HOME=None).splitlines()
    assert at.startswith(f"{place}/code/scgpt_runtime/__init__.py {private(place)}/")
    assert bins == "[ 1 50]"
