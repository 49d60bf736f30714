"""What a stage is asked, and the part of the results that it writes as it goes: a stage that dies keeps its rows.

In: a JSON file from the driver. Out: another one, always whole.
"""

import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

__all__ = ["Ask", "Part"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What every stage is told.

    Attributes
    ----------
    cache
        Folder that outlives a stage: checkpoint, bundle, caches.
    output
        Folder of the results, for files of a stage's own.
    rehearsal
        Everything on the processor, and small: no figure says anything of a GPU.
    small
        A tiny model in place of one of full size.
    seed
        Of weights and cells.
    ends
        Moment, by `time.time`, at which the stage is stopped.
    """

    cache: Path
    output: Path
    rehearsal: bool
    small: bool
    seed: int
    ends: float

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.ends - time.time()

    @property
    def provider(self) -> str:
        """What our side runs on."""
        return "cpu" if self.rehearsal else "cuda"

    @property
    def device(self) -> str:
        """What PyTorch runs on."""
        return "cpu" if self.rehearsal else "cuda"

    def pick(self, visit: Any, rehearsal: Any) -> Any:
        """One of two sizes."""
        return rehearsal if self.rehearsal else visit

    def save(self, path: Path) -> None:
        """Write for a stage."""
        path.write_text(json.dumps(asdict(self), default=str), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what the driver wrote."""
        told = json.loads(path.read_text(encoding="utf-8"))
        return cls(**(told | {"cache": Path(told["cache"]), "output": Path(told["output"])}))


class Part:
    """A stage's share of the results: values and lists of rows by name.

    Parameters
    ----------
    path
        File that holds all of it after each change. What it holds already, from before a restart, stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def put(self, name: str, value: Any) -> None:
        """Set a value."""
        self.found[name] = value
        self._save()

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Append a row."""
        self.found.setdefault(name, []).append(row)
        self._save()

    def has(self, name: str, /, **fields: Any) -> bool:
        """Whether a row with these fields is there."""
        wanted = plain(fields)
        return any(all(row.get(field) == value for field, value in wanted.items()) for row in self.found.get(name, []))

    def say(self, line: str) -> None:
        """Tell people how far the stage is."""
        print(f"· {line}", file=sys.stderr, flush=True)

    def restart(self) -> NoReturn:
        """Start this process anew: the only way on after a GPU was lost to it. Rows that are there will be kept."""
        self.say("the device was lost to this process, which starts anew")
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _save(self) -> None:
        beside = self._path.with_suffix(".writing")
        beside.write_text(json.dumps(plain(self.found), allow_nan=False), encoding="utf-8")
        os.replace(beside, self._path)


def plain(value: Any) -> Any:
    """The same as JSON can say it: what is not a finite number is null."""
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else str(value)
