"""A folder of parts before the work and after: `check_folder`, `make_ready`, `empty`.

The first looks whether it is ours, the second that it is free and of this work, the third clears it. All but the
first are called by who holds a lock there. It reads no parts.
"""

import logging
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from scgpt_infer.ledger import lock
from scgpt_infer.ledger.made_on import told_apart
from scgpt_infer.ledger.marks import read_marks
from scgpt_infer.ledger.plan import PLAN, Plan
from scgpt_infer.spans import Shard
from scgpt_runtime.errors import OutputError

__all__ = ["check_folder", "empty", "ledgers", "make_ready", "name_of"]

_log = logging.getLogger(__name__)

_SHARD = r"(\.\d+-of-\d+)"
_TEMPORARY = r"\.[a-z0-9_]{8}\.part"
_PLAN = re.escape(PLAN)

_LEDGER = re.compile(rf"ledger{_SHARD}?\.jsonl")
_SHARD_LOCK = re.compile(rf"lock{_SHARD}")

_OURS = (
    _LEDGER,
    re.compile(r"part-\d{12}\.npz"),
    re.compile(rf"\.part-\d{{12}}\.npz{_TEMPORARY}"),
    re.compile(rf"\.lock{_SHARD}?\.[0-9a-f]{{32}}(\.stale)?"),
    re.compile(rf"\.{_PLAN}{_TEMPORARY}"),
    re.compile(_PLAN),
)
"""Names of what runs of ours leave in the folder, but for locks: those of the dead are cleared when the work begins,
and one that comes later is of a shard that waits for the end of the whole.

They go in this order: whatever a crash leaves of it, no part is taken for one of other work, of which the plan tells.
"""

_WITHOUT_PLAN = (_SHARD_LOCK, *_OURS[3:5], re.compile("lock"), re.compile(r"\.nfs[0-9a-f]+"))
"""What a run of ours may leave that has not yet written its plan, or has just removed it, the last of all."""

_SHOWN = 3

_WATCHED = 256
"""Locks that are watched at a time."""


def name_of(word: str, shard: Shard | None, suffix: str = "") -> str:
    """Name of a file that a shard, or the whole work, has for itself."""
    return f"{word}{suffix}" if shard is None else f"{word}.{shard.index}-of-{shard.count}{suffix}"


def ledgers(folder: Path) -> list[Path]:
    """The ledgers of a folder, of the whole work and of shards."""
    return sorted(path for path in folder.glob("ledger*.jsonl") if _LEDGER.fullmatch(path.name))


def check_folder(folder: Path) -> None:
    """Make sure that what has the name of a folder of parts is one, or is free to become one.

    Raises
    ------
    OutputError
        It is a file or a link, or a folder with what no run of ours has left.
    """
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link, and parts are kept in a folder of their own. Remove it and run again.")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, and the parts of the output lie in a folder of this name. Rename it.")
    if not folder.exists() or _is_ours(folder):
        return
    others = [name for name in _names(folder) if not any(one.fullmatch(name) for one in _WITHOUT_PLAN)]
    if others and not _is_ours(folder):  # another run may just have begun
        told = f"{', '.join(sorted(others)[:_SHOWN])}{' and more' if len(others) > _SHOWN else ''}"
        raise OutputError(
            f"{folder} holds {told}, and no {PLAN} of ours and no ledger: expected a folder of parts, or none. Move "
            "it away, or name another output."
        )


def _is_ours(folder: Path) -> bool:
    """Whether there is a plan of ours, or a ledger that tells of parts."""
    try:
        Plan.read(folder)
    except OutputError:
        return _has_marks(folder)
    return True


def make_ready(
    folder: Path,
    plan: Plan,
    shard: Shard | None,
    resume: bool,
    say: Callable[[str], None],
    is_in_output: Callable[[Plan], bool] = lambda found: False,
) -> bool:
    """Look that nobody else does the same work, and that what lies there is of it; write the plan where there is none.

    Parameters
    ----------
    folder, plan, shard, resume, say
        See `Ledger.open`; the lock of the shard, or of the whole work, is held.
    is_in_output
        Whether the output holds all parts of a plan; asked where nothing but the input differs.

    Returns
    -------
    bool
        Whether it does.

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
    begun = Plan.read(folder)
    found = begun.differences(plan)
    if found and shard is None and not begun.differences(replace(plan, origin=begun.origin)) and is_in_output(begun):
        return True
    if found:
        anew = "begin anew with --no-resume (resume=False), which removes them"
        raise OutputError(
            f"{folder} holds the parts of other work: it has {'; '.join(found)}. Run with what it was begun with to go "
            f"on, or {anew if shard is None else 'remove the folder when no other shard is at work'}."
        )
    others = told_apart(begun.made_on, plan.made_on)
    if others:
        _log.warning(
            "%s was begun on another machine or version (%s): last bits may differ.", folder, "; ".join(others)
        )
    return False


def _free_of_others(folder: Path, shard: Shard | None, say: Callable[[str], None]) -> None:
    """Look at the locks that exclude ours, all at once: each may have to be watched."""
    others = [path for path in (_locks(folder) if shard is None else [folder / "lock"]) if path.exists()]
    if not others:
        return
    say(f"Others have been at work in {folder}. Looking whether they still are.")
    with ThreadPoolExecutor(min(len(others), _WATCHED)) as threads:
        list(threads.map(lock.clear, others))


def empty(folder: Path) -> None:
    """Remove what is ours, but for locks."""
    names = _names(folder)
    for pattern in _OURS:
        for name in filter(pattern.fullmatch, names):
            with suppress(FileNotFoundError):
                (folder / name).unlink()


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _locks(folder: Path) -> list[Path]:
    return [folder / name for name in filter(_SHARD_LOCK.fullmatch, _names(folder))]


def _forget(folder: Path, shard: Shard) -> None:
    """Let a shard begin anew; what other shards have done stays."""
    with suppress(FileNotFoundError):
        (folder / name_of("ledger", shard, ".jsonl")).unlink()


def _has_marks(folder: Path) -> bool:
    return any(map(read_marks, ledgers(folder)))


def _refuse_parts_of_none(folder: Path) -> None:
    if _has_marks(folder):
        raise OutputError(
            f"{folder} holds parts, and {PLAN}, which tells of what work they are, is gone. Put it back, or begin anew "
            "with --no-resume (resume=False)."
        )
