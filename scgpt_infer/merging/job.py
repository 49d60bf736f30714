"""The merge itself: folders of parts in, the finished output with its row report and `Merged` out.

What an output keeps of the cells is `scgpt_infer.merging.target`'s matter.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scgpt_infer.keeping import replay
from scgpt_infer.ledger.alone import alone
from scgpt_infer.ledger.joining import Joined, join, missing_rows, rows_in_words
from scgpt_infer.ledger.lock import Lock
from scgpt_infer.ledger.parts import Kept
from scgpt_infer.ledger.same_cells import of_cells
from scgpt_infer.merging.options import Merged, MergeOptions
from scgpt_infer.merging.target import destination, keeps_cells, open_target
from scgpt_infer.output import check_disk
from scgpt_infer.run import Progress
from scgpt_infer.summary import BadCells
from scgpt_infer.writers import writer_of
from scgpt_runtime.errors import CellsError, OutputError

__all__ = ["merge"]

_log = logging.getLogger(__name__)


def merge(
    folders: Sequence[Path | str],
    output: Path | str,
    options: MergeOptions | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Put parts together into the output that they are of.

    Every part is compared with its sha256, so that the output is bit for bit that of one undisturbed run with the same
    provider and precision. The folders stay as they are.

    Parameters
    ----------
    folders
        Of parts: ``OUTPUT.parts`` of each run or machine.
    output
        A file or folder with any suffix that `scgpt_infer.embed_file` can write.
    options
        What is taken.
    progress
        Told the cells that are written, and the cells in all.

    Raises
    ------
    OutputError
        Rows are missing, or there twice and not alike; folders are of other work; parts are damaged; another merge of
        this output is at work; or the output cannot be written.
    CellsError
        The cells are not where they were, or are others; or none has a result.
    """
    how, started = options or MergeOptions(), time.perf_counter()
    writer_of(Path(os.path.realpath(output)))  # a format that there is not is told first
    paths = [Path(folder) for folder in folders]
    joined = join(paths, allow_mixed=how.allow_mixed)
    lacking = missing_rows(joined, paths)
    if lacking and not how.allow_missing:
        raise OutputError(f"{lacking}, or take them as NaN with --allow-missing (allow_missing=True).")
    plan = joined.plan
    n_bad = sum(map(len, joined.missing)) + sum(mark.n_bad for mark in joined.marks)
    if n_bad == plan.n_cells:
        raise CellsError(f"None of the {n_bad:,} cells has a result in these folders, so nothing was written.")
    path = destination(plan, output, how)
    with alone(path, _log.warning) as lock, open_target(joined, path, how) as target:
        check_disk(target)
        parts = of_cells(joined.parts(), target.names) if keeps_cells(path) else joined.parts()
        bad = replay(_told(parts, plan.n_cells, progress, lock), target, _facts(joined, n_bad))
    seconds = time.perf_counter() - started
    return _merged(joined, path, paths, bad, seconds)


def _merged(joined: Joined, path: Path, folders: Sequence[Path], bad: BadCells, seconds: float) -> Merged:
    plan = joined.plan
    return Merged(
        output=str(path),
        key=plan.key,
        dim=plan.dim,
        folders=tuple(map(str, folders)),
        n_cells=plan.n_cells,
        n_embedded=plan.n_cells - bad.count,
        n_bad=bad.count,
        n_missing=sum(map(len, joined.missing)),
        n_twice=joined.twice,
        reasons=bad.by_reason(),
        bad=tuple(bad.first),
        mixed=joined.mixed,
        parts_sha256=joined.digest,
        wall_seconds=seconds,
        n_bad_files=int(plan.facts.get("n_bad_files", 0)),
        notes=joined.notes,
    )


def _facts(joined: Joined, n_bad: int) -> dict[str, Any]:
    """The facts of the run, and what is to be told of how its parts came together."""
    facts = {**joined.plan.facts, "n_cells": joined.plan.n_cells, "n_without_embedding": n_bad}
    facts |= {"parts_sha256": joined.digest, **{name: told for name, told in joined.mixed.items() if name in facts}}
    if joined.mixed:
        facts["mixed"] = "; ".join(f"{name} {told}" for name, told in joined.mixed.items())
    if joined.copies > 1:
        facts["inputs"] = f"{joined.copies} by the times of their files, compared by samples"
    if joined.missing:
        facts["incomplete"] = f"{rows_in_words(joined.missing)} of {joined.plan.n_cells:,} were not done"
    return facts


def _told(parts: Iterable[Kept], total: int, progress: Progress | None, lock: Lock) -> Iterator[Kept]:
    """The parts, and after them a look whether the output is still ours to make."""
    for kept in parts:
        yield kept
        if progress is not None:
            progress(kept.part.stop, total)
    lock.check()
