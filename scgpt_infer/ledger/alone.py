"""One merge at a time makes an output: `alone`, in which what killed merges of the same output have left goes, too.

`is_merging` asks from elsewhere. In: an output. Out: its lock, held. It knows no parts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scgpt_infer.ledger.folder import parts_folder
from scgpt_infer.ledger.holder import parsed
from scgpt_infer.ledger.lock import Lock
from scgpt_infer.writers.leftovers import sweep

__all__ = ["alone", "is_merging"]


@contextmanager
def alone(output: Path, say: Callable[[str], None]) -> Iterator[Lock]:
    """Hold the lock of the merges of an output inside the context.

    Parameters
    ----------
    output
        Final name; its folder can be written in.
    say
        Told when another merge is found and it takes time to see whether that one is at work.

    Raises
    ------
    OutputError
        Another merge of this output is at work.
    """
    path = _lock_of(output)
    try:
        with Lock.take(path, say=say) as lock:
            if not _is_at_work(parts_folder(output) / "lock"):
                sweep(output)
            yield lock
    finally:
        with suppress(OSError):  # another merge may wait there
            path.parent.rmdir()


def is_merging(output: Path) -> bool:
    """Whether a merge into this output may be at work."""
    return _is_at_work(_lock_of(output))


def _lock_of(output: Path) -> Path:
    return output.with_name(f".{output.name}.merging") / "lock"


def _is_at_work(lock: Path) -> bool:
    """Whether who holds a lock may be at work."""
    try:
        holder = parsed(lock.read_bytes())
    except OSError:
        return False
    return holder is None or not holder.surely_gone()
