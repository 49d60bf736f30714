"""A folder of parts before the work and after: `make_ready` looks that it is free and of this work, `empty` clears.

Called by who holds a lock there. It reads no parts.
"""

import fnmatch
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from scgpt_infer.ledger import lock
from scgpt_infer.ledger.marks import read_marks
from scgpt_infer.ledger.plan import PLAN, Plan
from scgpt_infer.spans import Shard
from scgpt_runtime.errors import OutputError

__all__ = ["LEDGERS", "empty", "make_ready", "name_of"]

LEDGERS = "ledger*.jsonl"
"""Pattern of the names of ledgers."""

_OURS = (LEDGERS, "part-*.npz", ".part-*.part", "lock.*", ".lock*", f".{PLAN}.*.part", PLAN)
"""Names of what runs of ours leave in the folder, but for the lock of the whole work.

They go in this order: whatever a crash leaves of it, no part is taken for one of other work, of which the plan tells.
"""

_WATCHED = 256
"""Locks that are watched at a time."""


def name_of(word: str, shard: Shard | None, suffix: str = "") -> str:
    """Name of a file that a shard, or the whole work, has for itself."""
    return f"{word}{suffix}" if shard is None else f"{word}.{shard.index}-of-{shard.count}{suffix}"


def make_ready(folder: Path, plan: Plan, shard: Shard | None, resume: bool, say: Callable[[str], None]) -> None:
    """Look that nobody else does the same work, and that what lies there is of it; write the plan where there is none.

    Parameters
    ----------
    folder, plan, shard, resume, say
        See `Ledger.open`; the lock of the shard, or of the whole work, is held.

    Raises
    ------
    OutputError
        A shard is at work where all of it is to be done, or the other way round; or what is there is other work.
    """
    _free_of_others(folder, shard, say)
    if shard is None and not (resume and _has_marks(folder)):
        empty(folder)
    elif not resume and shard is not None:
        _forget(folder, shard)
    if not (folder / PLAN).exists():
        _refuse_parts_of_none(folder)
        plan.write(folder)
    found = Plan.read(folder).differences(plan)
    if found:
        anew = "begin anew with --no-resume (resume=False), which removes them"
        raise OutputError(
            f"{folder} holds the parts of other work: it has {'; '.join(found)}. Run with what it was begun with to go "
            f"on, or {anew if shard is None else 'remove the folder when no other shard is at work'}."
        )


def _free_of_others(folder: Path, shard: Shard | None, say: Callable[[str], None]) -> None:
    """Look at the locks that exclude ours, all at once: each may have to be watched."""
    others = [path for path in (folder.glob("lock.*") if shard is None else (folder / "lock",)) if path.exists()]
    if not others:
        return
    say(f"Others have been at work in {folder}. Looking whether they still are.")
    with ThreadPoolExecutor(min(len(others), _WATCHED)) as threads:
        list(threads.map(lock.clear, others))


def empty(folder: Path) -> None:
    """Remove what is ours, but for the lock of the whole work."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for pattern in _OURS:
        for name in fnmatch.filter(names, pattern):
            with suppress(FileNotFoundError):
                (folder / name).unlink()


def _forget(folder: Path, shard: Shard) -> None:
    """Let a shard begin anew; what other shards have done stays."""
    with suppress(FileNotFoundError):
        (folder / name_of("ledger", shard, ".jsonl")).unlink()


def _has_marks(folder: Path) -> bool:
    return any(read_marks(path) for path in folder.glob(LEDGERS))


def _refuse_parts_of_none(folder: Path) -> None:
    if _has_marks(folder):
        raise OutputError(
            f"{folder} holds parts, and {PLAN}, which tells of what work they are, is gone. Put it back, or begin anew "
            "with --no-resume (resume=False)."
        )
