"""How a folder of parts stands before a run: `standing`, what is kept there and who may be at work.

In: the folder, the plan of the run, its options. Out: plain values, or why the run would be refused. It takes no lock
and changes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from scgpt_infer.ledger.lock import holder_of
from scgpt_infer.ledger.marks import read_marks
from scgpt_infer.ledger.parts import is_there
from scgpt_infer.ledger.plan import PLAN, Plan
from scgpt_infer.ledger.readying import check_folder, ledgers, name_of
from scgpt_infer.spans import Shard, taken
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OutputError

__all__ = ["Standing", "standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a run would find.

    Attributes
    ----------
    n_cells
        Cells that it answers for.
    n_kept
        Those of them that an earlier run has done.
    held_by
        Who may be at work there, so that it would have to wait, or be refused.
    """

    n_cells: int
    n_kept: int = 0
    held_by: tuple[str, ...] = ()


def standing(folder: Path, plan: Plan, work: WorkOptions) -> Standing:
    """Look at a folder of parts, which need not be there.

    Parameters
    ----------
    folder
        Where the run would keep its parts.
    plan
        Its work.
    work
        Its share of it, and whether it goes on with what is there.

    Raises
    ------
    OutputError
        The run would be refused: what is there is other work, or nothing of ours.
    """
    check_folder(folder)
    spans = {span.start: span for span in taken(plan.n_cells, work.shard, plan.range_rows)}
    n_cells = sum(map(len, spans.values()))
    held_by = _holders(folder, work.shard)
    own = name_of("ledger", work.shard, ".jsonl")
    paths = [path for path in ledgers(folder) if work.resume or (work.shard is not None and path.name != own)]
    marks = [mark for path in paths for mark in read_marks(path)]
    if not marks and (work.shard is None or not (folder / PLAN).exists()):
        return Standing(n_cells, 0, held_by)  # what there is would be cleared away
    _refuse_other_work(folder, plan)
    kept = {mark.first_row for mark in marks if mark.rows == spans.get(mark.first_row) and is_there(folder, mark)}
    return Standing(n_cells, sum(len(spans[row]) for row in kept), held_by)


def _holders(folder: Path, shard: Shard | None) -> tuple[str, ...]:
    """Who holds one of the locks that exclude this run."""
    whole = folder / "lock"
    paths = [whole, *(sorted(folder.glob("lock.*")) if shard is None else [folder / name_of("lock", shard)])]
    return tuple(who for who in map(holder_of, paths) if who is not None)


def _refuse_other_work(folder: Path, plan: Plan) -> None:
    found = Plan.read(folder).differences(plan)
    if found:
        raise OutputError(
            f"{folder} holds the parts of other work, so a run would be refused: it has {'; '.join(found)}. Run with "
            "what it was begun with to go on, name another output, or begin anew (--no-resume, resume=False)."
        )
