"""Folders of parts put together: `join` looks whether they are of the same work, and which rows are in none or in two.

In: folders, such as the shards of several machines left. Out: `Joined`, which gives the parts in the order of their
rows, each checked by its sha256. It knows no format of results and no model.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scgpt_infer.ledger.folder import all_marks
from scgpt_infer.ledger.made_on import told_apart
from scgpt_infer.ledger.marks import Mark, digest
from scgpt_infer.ledger.parts import Kept, is_there, read_names, read_part
from scgpt_infer.ledger.plan import Plan, apart
from scgpt_infer.spans import Shard, grid
from scgpt_infer.writers.sink import Part, no_values
from scgpt_runtime.errors import OutputError

__all__ = ["MISSING", "Joined", "join", "missing_rows", "rows_in_words"]

Place = tuple[Path, Mark]
"""Folder and mark of a range."""

MISSING = "not done"
"""Why a row has no result that no part has."""

_TIME = "time of the input"

_FREE = frozenset({"version", _TIME})
"""In which plans of parts that can be compared may differ: a copy of the input is younger."""

_MADE_BY = frozenset(
    {"model", "vector_id", "weights_sha256", "vocabulary_sha256", "source_sha256", "n_matched", "match_fraction"}
    | {"provider", "precision", "dialect", "max_length", "seed", "ties", "sample", "batch_tokens"}
)
"""Facts in which parts may differ that are mixed."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Joined:
    """The parts of several folders as one.

    Attributes
    ----------
    plan
        The work.
    places
        Folder and mark of each range that is done, by its first row.
    twice
        Cells that two folders have, alike to the last bit; they are taken once.
    mixed
        What made the parts, by name, where they differ.
    copies
        Inputs of the folders, told apart by the times of their files; more than one were compared by samples.
    notes
        What a user may wonder at.
    """

    plan: Plan
    places: dict[int, Place]
    twice: int = 0
    mixed: dict[str, str] = field(default_factory=dict)
    copies: int = 1
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> list[range]:
        """Ranges that are in no folder."""
        return [span for span in grid(self.plan.n_cells, self.plan.range_rows) if span.start not in self.places]

    @property
    def marks(self) -> list[Mark]:
        """What is done, in the order of rows."""
        return [self.places[first][1] for first in sorted(self.places)]

    @property
    def digest(self) -> str:
        """One sha256 of all parts."""
        return digest(self.marks)

    def parts(self) -> Iterator[Kept]:
        """All rows in order, a range at a time; those that are missing are NaN.

        Raises
        ------
        OutputError
            A part is gone, or not the one that was written.
        """
        for span in grid(self.plan.n_cells, self.plan.range_rows):
            place = self.places.get(span.start)
            yield self._nothing(span) if place is None else read_part(*place)

    def names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows start to stop; of missing ones, the row."""
        step, found = self.plan.range_rows, []
        for first in range(start // step * step, stop, step):
            span = range(first, min(first + step, self.plan.n_cells))
            place = self.places.get(first)
            names = _row_names(span) if place is None else read_names(*place)
            found += names[max(start - first, 0) : stop - first]
        return found

    def _nothing(self, span: range) -> Kept:
        plan, n_cells = self.plan, len(span)
        vectors = np.full((n_cells, plan.dim), np.nan, np.float32)
        part = Part(span.start, vectors, (MISSING,) * n_cells, no_values(plan.columns, n_cells))
        return Kept(part, tuple(_row_names(span)))


def join(folders: Sequence[Path], *, allow_mixed: bool = False) -> Joined:
    """Put folders together.

    Parameters
    ----------
    folders
        Of parts, as shards and runs that were interrupted leave them.
    allow_mixed
        Take parts of several models, providers or precisions.

    Raises
    ------
    OutputError
        One is no folder of parts, is named twice, or has parts of other work; or two have the same rows, but not the
        same result.
    """
    real = [folder.resolve() for folder in folders]
    again = [str(folder) for number, folder in enumerate(folders) if real[number] in real[:number]]
    if again:
        raise OutputError(f"{', '.join(again)} is named twice, so that its rows would be double. Name it once.")
    plans = {folder: Plan.read(folder) for folder in folders}
    plan, mixed = _agreed(plans)
    told = "; ".join(f"{name} {values}" for name, values in mixed.items())
    if mixed and not allow_mixed:
        raise OutputError(
            f"The folders differ in what made their vectors: {told}. "
            "Such vectors cannot be compared. Run again what is different, or merge it all the same with --allow-mixed "
            "(allow_mixed=True), which the record of the output then tells."
        )
    places, twice = _placed(plan, folders)
    copies = {other.flat().get(_TIME) for other in plans.values()}
    return Joined(plan, places, twice, mixed, len(copies), tuple(_notes(plans, len(copies))))


def missing_rows(joined: Joined, folders: Sequence[Path]) -> str:
    """Which rows are in none of the folders, and what to run again, in words; empty: none."""
    missing = joined.missing
    if not missing:
        return ""
    counts = {count for folder in folders for count in _shard_counts(folder)}
    again = "Run the command that makes them again"
    if len(counts) == 1:
        whole = grid(joined.plan.n_cells, joined.plan.range_rows)
        every = [Shard(index, count) for count in counts for index in range(count)]
        starts = {span.start for span in missing}
        lacking = [shard for shard in every if any(whole[number].start in starts for number in shard.of(len(whole)))]
        again += f" with --shard {', '.join(map(str, lacking[:_SHOWN]))}{' and so on' if len(lacking) > _SHOWN else ''}"
    return f"{rows_in_words(missing)} of {joined.plan.n_cells:,} are in none of the folders. {again}"


def rows_in_words(spans: Sequence[range]) -> str:
    """Ranges of rows, neighbours as one, the first of them where there are many."""
    runs: list[range] = []
    for span in spans:
        if runs and runs[-1].stop == span.start:
            runs[-1] = range(runs[-1].start, span.stop)
        else:
            runs.append(span)
    told = ", ".join(f"{run.start:,} to {run.stop - 1:,}" for run in runs[:_SHOWN])
    return f"Rows {told}{f' and {len(runs) - _SHOWN} more spans' if len(runs) > _SHOWN else ''}"


def _agreed(plans: Mapping[Path, Plan]) -> tuple[Plan, dict[str, str]]:
    """The plan that all have in common, and what made their parts where that differs."""
    (first, plan), *others = plans.items()
    wanted, values = _told(plan), {name: [value] for name, value in _told(plan).items() if name in _MADE_BY}
    for folder, other in others:
        found = _told(other)
        different = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
        work = [apart(name, found.get(name), wanted.get(name)) for name in different if name not in _MADE_BY]
        if work:
            raise OutputError(
                f"{folder} holds the parts of other work than {first}: it has {'; '.join(work)}. Merge folders "
                "of one job alone."
            )
        for name in different:
            seen = values.setdefault(name, [])
            if found.get(name) not in seen:
                seen.append(found.get(name))
    return plan, {name: " | ".join(map(str, seen)) for name, seen in values.items() if len(seen) > 1}


def _told(plan: Plan) -> dict[str, Any]:
    """What must be equal."""
    return {name: value for name, value in plan.flat().items() if name not in _FREE}


def _notes(plans: Mapping[Path, Plan], copies: int) -> Iterator[str]:
    (first, plan), *others = plans.items()
    if copies > 1:
        yield (
            f"The folders are of {copies} inputs whose files differ in the times of their last change. They were "
            "compared by their sizes and by samples of their content, not whole: see that they are copies of one input."
        )
    for folder, other in others:
        apart_in = told_apart(plan.made_on, other.made_on)
        if apart_in:
            yield (
                f"{first} and {folder} were made on different machines or versions ({'; '.join(apart_in)}): last bits "
                "may differ from those of one run."
            )


def _placed(plan: Plan, folders: Sequence[Path]) -> tuple[dict[int, Place], int]:
    """Where each range is, and how many cells are in two folders alike."""
    places: dict[int, Place] = {}
    twice = 0
    for folder in folders:
        marks = all_marks(folder)
        for span in grid(plan.n_cells, plan.range_rows):
            mark = marks.get(span.start)
            if mark is None or mark.n_cells != len(span) or not is_there(folder, mark):
                continue
            there, known = places.setdefault(span.start, (folder, mark))
            if there != folder and known.sha256 != mark.sha256:
                raise OutputError(
                    f"{rows_in_words([span])} are in {there} and in {folder}, and not alike. Merge without one of them."
                )
            twice += 0 if there == folder else len(span)
    return places, twice


def _shard_counts(folder: Path) -> set[int]:
    """Of how many shards there are accounts in a folder."""
    found = (re.fullmatch(r"ledger\.\d+-of-(\d+)\.jsonl", path.name) for path in folder.iterdir())
    return {int(one[1]) for one in found if one is not None}


def _row_names(span: range) -> list[str]:
    return [f"row {row}" for row in span]
