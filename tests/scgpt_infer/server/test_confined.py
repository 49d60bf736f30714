"""A server as containers start it: an unknown user id, a root that cannot be written, machine code that was brought."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from numba.core.caching import _CacheLocator as CacheImpl

import scgpt_infer
import scgpt_runtime
from scgpt_infer.server.warming import ready, requests

REPOSITORY = Path(scgpt_infer.__file__).parents[1]
CONFINED = Path(__file__).with_name("confined.sh")
_TOOLS = ("unshare", "setpriv", "findmnt", "mount")
_PLACES = [REPOSITORY, Path(scgpt_runtime.__file__).parents[1], Path(sys.prefix), Path(sys.base_prefix)]


def _can_be_confined() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, _TOOLS)):
        return False
    return subprocess.run(["unshare", "--mount", "mount", "--make-rprivate", "/"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_be_confined(), reason="only root can mount, and not in every container")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> Path:
    """A NUMBA_CACHE_DIR as an image has it: warmed by the module for it, and nothing that a server may write."""
    folder = tmp_path_factory.mktemp("kernels") / "numba"
    for kept in (*REPOSITORY.rglob("scgpt_*/**/__pycache__/*.nb?"),):  # what is compiled already need not be again
        target = folder / CacheImpl.get_suitable_cache_subpath(str(kept.parents[1] / "any.py"))
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy2(kept, target)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    subprocess.run([sys.executable, "-m", "scgpt_infer.server.warming"], check=True, env=environment, cwd="/")
    return folder


def test_every_loop_that_requests_reach_is_brought(kernels):
    from numba.core.dispatcher import Dispatcher

    from scgpt_infer.server import kernels as loops

    cached = [name for name in loops.__all__ if isinstance(getattr(loops, name), Dispatcher)]
    brought = {path.name.split("-")[0] for path in kernels.rglob("*.nbc")}
    assert len(cached) >= 6
    assert {f"kernels.{name}" for name in (*cached, "tokenize_rows")} <= brought


def _confined(folder: Path, readable: list[Path], told: dict[str, object], *command: str) -> list[str]:
    names = " ".join(f"{name}={value}" for name, value in told.items())
    places = [str(place) for place in dict.fromkeys([*_PLACES, *readable, folder])]
    return ["unshare", "--mount", str(CONFINED), str(folder), names, *places, "--", *command]


@pytest.mark.slow
def test_it_answers_as_a_container_starts_it_and_compiles_nothing(kernels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")  # a short name: sockets lie below it, and theirs have a limit
    folder.chmod(0o755)
    told = {
        "TMPDIR": folder / "tmp",
        "XDG_CACHE_HOME": folder / "cache",
        "HOME": folder / "tmp",
        "NUMBA_CACHE_DIR": kernels,
        "SCGPT_INFER_SERVE_PORT": "0",
    }
    words = _confined(folder, [kernels], told, sys.executable, "-c", _PROGRAM)
    server = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        assert server.stderr is not None
        assert json.loads(server.stderr.readline()) == {"user": 54321, "written": []}
        url = ready(server.stderr)
        for path, body, headers in requests():
            with urllib.request.urlopen(urllib.request.Request(url + path, body, headers), timeout=60) as answer:
                assert answer.status == 200
        private = Path(f"/proc/{server.pid}/root{folder}/tmp/scgpt-infer-54321")  # as the server sees it
        brought, used = ({path.name for path in place.rglob("*.nb?")} for place in (kernels, private))
        assert used == brought
    finally:
        server.send_signal(signal.SIGTERM)
        _, rest = server.communicate(timeout=60)
    assert server.returncode == 0, rest


_PROGRAM = """
import json, os, sys
written = []
for place in ("/", "/etc", "/var/tmp", os.environ["NUMBA_CACHE_DIR"], sys.prefix):
    try:
        open(os.path.join(place, "scgpt-infer-was-here"), "w").close()
        written.append(place)
    except OSError:
        pass
print(json.dumps({"user": os.getuid(), "written": written}), file=sys.stderr, flush=True)
words = ["serve", "--model", "demo", "--provider", "cpu", "--instances", "1"]
os.execv(sys.executable, [sys.executable, "-m", "scgpt_infer", *words])
"""
