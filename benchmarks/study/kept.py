"""Runs that are done, kept in files, so that a comparison that was interrupted goes on where it was.

In and out: `Outcome`. A run belongs to a side, a file of cells and the number of its round.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.study.figures import Run
from benchmarks.study.launch import Outcome
from benchmarks.study.sides import Side

__all__ = ["Kept"]


class Kept:
    """A folder of runs.

    Parameters
    ----------
    folder
        Where they are.
    resume
        Whether those that are there already count; else they are deleted.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if not resume:
            for stale in folder.glob("*.json"):
                stale.unlink()

    def outcome(self, side: Side, cells: Path, number: int, run: Callable[[], Outcome]) -> Outcome:
        """The run that is kept, or one that is made now; failures are not kept."""
        path = self.folder / f"{side.name}.{cells.stem}.{number}.json"
        if path.exists():
            return _read(path)
        made = run()
        if made.run is not None:
            beside = path.with_suffix(".part")
            beside.write_text(json.dumps(asdict(made)), encoding="utf-8")
            beside.replace(path)
        return made

    def beyond(self, side: Side, cells: Path, rounds: int) -> list[int]:
        """Rounds that are kept although fewer are asked for now."""
        found = (path.stem.rpartition(".")[2] for path in self.folder.glob(f"{side.name}.{cells.stem}.*.json"))
        return sorted(number for number in map(int, found) if number >= rounds)

    def peak(self, number: int, measure: Callable[[], str]) -> dict[str, float]:
        """TFLOP/s by type of a round, measured once."""
        path = self.folder / f"peak.{number}.json"
        if not path.exists():
            path.write_text(measure(), encoding="utf-8")
        found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return found


def _read(path: Path) -> Outcome:
    told = json.loads(path.read_text(encoding="utf-8"))
    run = told["run"]
    answers = tuple((moment, cells) for moment, cells in run["answers"])
    return Outcome(Run(**(run | {"answers": answers})), told["facts"], told["reason"])
