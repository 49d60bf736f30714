"""The account of a job's work in the folder of its parts: `Ledger`, which ranges are done and which are missing.

Resume, retry and shard are one idea: whoever opens the folder does what is missing of its share. It knows no engine and
no format of results.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from scgpt_infer.interrupts import deferred
from scgpt_infer.ledger.lock import Lock
from scgpt_infer.ledger.marks import Mark, append, digest, read_marks
from scgpt_infer.ledger.parts import Kept, is_of, is_there, read_part, write_part
from scgpt_infer.ledger.plan import Plan
from scgpt_infer.ledger.readying import check_folder, empty, ledgers, make_ready, name_of
from scgpt_infer.spans import Shard, grid
from scgpt_infer.writers.sink import output_errors
from scgpt_runtime.errors import OutputError

__all__ = ["Ledger", "all_marks", "parts_folder"]


def parts_folder(output: Path) -> Path:
    """Where the parts of an output lie until it is whole."""
    return output.with_name(f"{output.name}.parts")


def all_marks(folder: Path) -> dict[int, Mark]:
    """What all ledgers of a folder say is done, by first row; of two marks of a range, that of the part there is."""
    found: dict[int, Mark] = {}
    for mark in (mark for path in ledgers(folder) for mark in read_marks(path)):
        other = found.setdefault(mark.first_row, mark)
        if other.sha256 != mark.sha256 and is_of(folder, mark):
            found[mark.first_row] = mark
    return found


class Ledger:
    """The account of the work that one process, with its workers, does.

    Attributes
    ----------
    folder
        Of the parts.
    plan
        The work.
    spans
        The ranges that this process answers for, done or not.
    marks
        Those that are done, by first row.
    is_in_output
        Whether the output holds all parts already: a run was killed behind the moment when it took its name.
    """

    def __init__(self, folder: Path, plan: Plan, shard: Shard | None, lock: Lock, is_in_output: bool = False) -> None:
        self.folder, self.plan, self.is_in_output = folder, plan, is_in_output
        whole = grid(plan.n_cells, plan.range_rows)
        self.spans = whole if shard is None else [whole[number] for number in shard.of(len(whole))]
        self._lock, self._path = lock, folder / name_of("ledger", shard, ".jsonl")
        self.marks = _done(folder, self.spans)
        self.n_kept = sum(mark.n_cells for mark in self.marks.values())

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        plan: Plan,
        *,
        shard: Shard | None = None,
        resume: bool = True,
        say: Callable[[str], None] = lambda line: None,
        held: Callable[[str], bool] = lambda sha256: False,
    ) -> Iterator["Ledger"]:
        """Open the account of some work, alone; where nothing is done when it is left, the folder goes.

        Parameters
        ----------
        folder
            Of the parts; made if it is not there.
        plan
            The work.
        shard
            The share that is answered for; None: all of it.
        resume
            Go on with what is there. Else it is removed.
        say
            Told of what a user may wait for, or wonder at.
        held
            Whether the output, which is the input as well, says that it holds the parts of this digest.

        Raises
        ------
        OutputError
            What has the folder's name is not ours, another process is at it, or what is there is other work.
        """
        check_folder(folder)
        try:
            with _ready(folder, plan, shard, resume, say, held) as (lock, is_in_output):
                ledger = cls(folder, plan, shard, lock, is_in_output)
                try:
                    yield ledger
                finally:
                    if not ledger.marks and shard is None and lock.is_ours():
                        empty(folder)
        finally:
            with suppress(OSError):  # where anything is kept, or another shard is at work, it is not empty
                folder.rmdir()

    @property
    def n_cells(self) -> int:
        """Cells that this process answers for."""
        return sum(map(len, self.spans))

    @property
    def n_done(self) -> int:
        """Those of them that are done."""
        return sum(mark.n_cells for mark in self.marks.values())

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return len(self.marks) == len(self.spans)

    def missing(self) -> list[range]:
        """Ranges that are not done, in order."""
        return [span for span in self.spans if span.start not in self.marks]

    @property
    def told(self) -> str:
        """What is kept, for messages."""
        return (
            f"{self.n_done:,} of {self.n_cells:,} cells are done and kept in {self.folder}: the same command goes on "
            "from there."
        )

    def keep(self, kept: Kept, longest: int, batch_tokens: int) -> Mark:
        """Write a part and mark its range; see `write_part`."""
        with output_errors(self.folder):
            mark = write_part(self.folder, kept, self.plan.dtype, longest, batch_tokens)
        self.mark(mark)
        return mark

    def mark(self, mark: Mark) -> None:
        """Enter a range whose part is on the disk."""
        self._lock.check()
        with deferred():  # a signal between the two would have a done range taken for none
            append(self._path, mark)
            self.marks[mark.first_row] = mark

    def in_order(self) -> list[Mark]:
        """The marks of all ranges, in the order of their rows.

        Raises
        ------
        OutputError
            One is missing.
        """
        missing = self.missing()
        if missing:
            raise OutputError(f"Rows {missing[0].start:,} to {missing[0].stop - 1:,} are not done. {self.told}")
        return [self.marks[span.start] for span in self.spans]

    def parts(self) -> Iterator[Kept]:
        """The parts of all ranges, in order, and after them a look whether the work is still ours to end.

        Raises
        ------
        OutputError
            One is missing or not what was written, or another process has taken over.
        """
        for mark in self.in_order():
            yield read_part(self.folder, mark)
        self._lock.check()

    def remove(self) -> None:
        """Take away the parts, which the output holds now.

        Raises
        ------
        OutputError
            Another process has taken over, and reads them.
        """
        self._lock.check()
        self.marks.clear()
        empty(self.folder)


@contextmanager
def _ready(
    folder: Path,
    plan: Plan,
    shard: Shard | None,
    resume: bool,
    say: Callable[[str], None],
    held: Callable[[str], bool],
) -> Iterator[tuple[Lock, bool]]:
    """The lock of a folder that is ready, and what `make_ready` found; all again where the folder went meanwhile."""
    while True:
        with Lock.take(folder / name_of("lock", shard), say=say) as lock:
            try:
                found = make_ready(folder, plan, shard, resume, say, partial(_is_whole_in, folder, held))
            except OutputError:
                if lock.path.exists():
                    raise
                continue
            yield lock, found
            return


def _done(folder: Path, spans: Iterable[range]) -> dict[int, Mark]:
    """The marks of ranges whose parts are there, by first row."""
    marks = all_marks(folder)
    pairs = ((span, marks[span.start]) for span in spans if span.start in marks)
    return {span.start: mark for span, mark in pairs if mark.n_cells == len(span) and is_there(folder, mark)}


def _is_whole_in(folder: Path, held: Callable[[str], bool], plan: Plan) -> bool:
    """Whether all parts of a plan are there, and the output holds them."""
    spans = grid(plan.n_cells, plan.range_rows)
    marks = _done(folder, spans)
    return len(marks) == len(spans) and held(digest(marks.values()))
