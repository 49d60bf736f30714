"""An upload is looked at by a process of its own: `checked` starts it, waits for its word, and tells what it said.

It knows nothing of formats: whatever the process does, it dies, hangs or says, the answer is `Checked` or a refusal.
"""

import asyncio
import json
import logging
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scgpt_infer.server.confining import environment
from scgpt_infer.server.refusals import Broken, NoRoom, Unprocessable
from scgpt_infer.server.uploads.chosen import Chosen
from scgpt_infer.server.uploads.limits import Limits
from scgpt_infer.server.uploads.naming import suffix_of
from scgpt_infer.sizes import size
from scgpt_infer.tied import program

__all__ = ["Checked", "checked"]

_LOG = logging.getLogger(__name__)
_LOOK = "scgpt_infer.server.uploads.looking:look"
_SET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_MOST_SAID = 64 * 2**10
_LOGGED = 2000


@dataclass(frozen=True, slots=True)
class Checked:
    """A file in which nothing was found wrong.

    Attributes
    ----------
    suffix
        Of its format, one of `scgpt_infer.server.uploads.naming.SUFFIXES`. It is to be opened under a name with it.
    n_cells, n_genes
        Rows and columns of the matrix that is read.
    """

    suffix: str
    n_cells: int
    n_genes: int


async def checked(path: Path, name: str, limits: Limits | None = None, chosen: Chosen | None = None) -> Checked:
    """Look at an upload in a process with limits on memory, time and files.

    A task that is cancelled ends the process.

    Parameters
    ----------
    path
        The file. Beside it a folder is made for what the process writes, and removed again.
    name
        What the client calls it; it tells the format, and messages name the file so.
    limits
        None: the defaults.
    chosen
        What is read of it. None: what is found out.

    Raises
    ------
    Unprocessable
        Something is wrong with the name or the file, or to look at it takes too much.
    NoRoom
        The disk is full.
    Broken
        The process did not start.
    """
    limits, suffix, path = limits or Limits(), suffix_of(name), path.resolve()
    with tempfile.TemporaryDirectory(prefix=".looking-", dir=path.parent) as folder:
        link = Path(folder) / f"cells{suffix}"
        link.symlink_to(path)
        said, code, log = await _looked(link, limits, chosen or Chosen())
    if "begun" not in said and code is not None:
        _LOG.error("The process that looks at uploads did not start (%s): %s", code, log)
        raise Broken("The process that looks at uploads did not start. The server's log says why.")
    if "n_cells" in said:
        return Checked(suffix, int(said["n_cells"]), int(said["n_genes"]))
    if log:
        _LOG.warning("Looking at an upload ended with %s: %s", code, log)
    why = str(said.get("error") or _ended(code, limits, path)).replace(str(link), name)
    raise NoRoom(why) if said.get("no_room") else Unprocessable(why)


async def _looked(link: Path, limits: Limits, chosen: Chosen) -> tuple[dict[str, Any], int | None, str]:
    """What the process said, how it ended (None: it took too long), and the end of what it wrote for us."""
    seconds = limits.patience(link.stat().st_size)
    log = link.parent / "log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program(_LOOK, str(link), asdict(limits), asdict(chosen), seconds),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=link.parent,
            env=environment(**_SET, TMPDIR=str(link.parent)),
            start_new_session=True,
        )
    ended: int | None = None
    said = bytearray()
    try:
        async with asyncio.timeout(seconds):
            await _hear(process, said)
            ended = await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _words(said), ended, log.read_bytes()[-_LOGGED:].decode("utf-8", "replace").strip()


async def _hear(process: asyncio.subprocess.Process, said: bytearray) -> None:
    """Add what a process says to what it has said, until it says no more or too much."""
    assert process.stdout is not None
    while (more := await process.stdout.read(_MOST_SAID)) and len(said) <= _MOST_SAID:
        said += more
    if more:
        process.kill()


def _words(said: bytearray) -> dict[str, Any]:
    """What was said: JSON objects, a line each; a line that was cut short is none."""
    words: dict[str, Any] = {}
    for line in said.splitlines():
        try:
            words.update(json.loads(line))
        except (ValueError, TypeError):
            continue
    return words


def _ended(code: int | None, limits: Limits, path: Path) -> str:
    """Why a process said nothing of a file."""
    if code is None or code == -signal.SIGXCPU:
        most = limits.patience(path.stat().st_size)
        return (
            f"To look at this file took longer than {most:,.0f} s. It is damaged, or of a kind that is not taken here."
        )
    if code == -signal.SIGKILL:
        return (
            f"To look at this file took more memory than there is (at most {size(limits.memory_bytes)}). Write it with "
            "smaller chunks, or send its parts."
        )
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"What reads this file broke off ({how}). It is damaged: copy or write it again."
