"""What the work is that a ledger keeps account of: `Plan`, written once, and compared before anything is resumed.

Plain values, as JSON. It knows no parts.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from scgpt_infer.ledger.made_on import made_here
from scgpt_infer.ledger.origin import Origin
from scgpt_infer.writers.sink import Column, Table, beside, fsync, output_errors
from scgpt_runtime.errors import OutputError

__all__ = ["PLAN", "Plan", "apart"]

PLAN = "plan.json"
"""Name of the plan among the parts."""

_FORMAT = 1
_LONG, _BEFORE = 60, 20

_FREE = frozenset(
    {"threads", "instances", "device", "batch_tokens", "n_cells", "n_without_embedding"}
    | {"min_match", "annotation_reference"}  # where enough genes match; the reference's sha256 tells which it is
)
"""Facts of a run that two runs of the same work may differ in."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The work.

    Attributes
    ----------
    origin
        The cells; None where they lie in no file.
    n_cells, range_rows
        Rows, and how many of them a range of the grid has.
    dim, dtype
        Numbers of a vector, and what they are stored as.
    key, prefix, kind
        See `Target`.
    facts
        Of the run, as they go with the result.
    asked
        Everything that was asked for and can change a row.
    columns, with_vectors, features, matrices, tables
        See `Target`.
    made_on
        Machine and libraries: told, never compared.
    """

    origin: Origin | None
    n_cells: int
    range_rows: int
    dim: int
    dtype: str
    key: str
    prefix: str
    kind: str
    facts: dict[str, str | int | float]
    asked: dict[str, Any] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    with_vectors: bool = True
    features: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    made_on: dict[str, str] = field(default_factory=made_here)

    @property
    def n_ranges(self) -> int:
        """Ranges of the grid."""
        return -(-self.n_cells // self.range_rows)

    def differences(self, other: "Plan") -> list[str]:
        """How another plan differs from this one, in words; empty: it is the same work."""
        ours, theirs = self.flat(), other.flat()
        names = sorted({*ours, *theirs})
        return [apart(name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)]

    def flat(self) -> dict[str, Any]:
        """All that two plans of the same work have in common, by name."""
        whole = json.loads(self.to_json())
        for name in ("columns", "features", "matrices", "tables"):
            words = json.dumps(whole[name])
            whole[name] = words if len(words) <= _LONG else hashlib.sha256(words.encode()).hexdigest()
        facts, asked = whole.pop("facts"), whole.pop("asked")
        del whole["origin"], whole["made_on"]
        told = {} if self.origin is None else {**self.origin.told(), "time of the input": self.origin.modified}
        if self.origin is not None and self.origin.size:
            del told["name of the input"]  # its content tells
        kept = {name: value for name, value in facts.items() if name not in _FREE}
        return {**kept, **whole, **dict(_leaves(asked)), **told}

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The plan of a folder of parts.

        Raises
        ------
        OutputError
            There is none, or one that cannot be read.
        """
        path = folder / PLAN
        try:
            told: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            lacks = f"has no {PLAN}" if folder.is_dir() else "is a file" if folder.exists() else "is not there"
            raise OutputError(
                f"{folder} {lacks}, so it is no folder of parts. Name one that scgpt-infer made (OUTPUT.parts)."
            ) from error
        except OSError as error:
            raise OutputError(f"{path} cannot be read: {error.strerror}. See that you may read it.") from error
        except ValueError as error:
            raise _unreadable(path, str(error)) from error
        found = told.get("format") if isinstance(told, dict) else None
        if found is not None and found != _FORMAT:
            raise OutputError(
                f"{path} has the format {found}; this version knows {_FORMAT}. Finish the work with the version that "
                "began it, or remove the folder and begin anew."
            )
        try:
            return cls._from(told)
        except (AttributeError, KeyError, TypeError) as error:
            raise _unreadable(path, f"{type(error).__name__}: {error}") from error

    @classmethod
    def _from(cls, told: Mapping[str, Any]) -> Self:
        values = {name: value for name, value in told.items() if name != "format"}
        origin = values.pop("origin")
        columns = tuple(Column(one["name"], tuple(one["words"])) for one in values.pop("columns"))
        tables = tuple(Table(**{**one, "features": tuple(one["features"])}) for one in values.pop("tables"))
        features, matrices = (tuple(values.pop(name)) for name in ("features", "matrices"))
        if origin is not None:
            origin = Origin(**{**origin, "paths": tuple(origin["paths"]), "names": tuple(origin["names"])})
        return cls(origin=origin, columns=columns, features=features, matrices=matrices, tables=tables, **values)

    def write(self, folder: Path) -> None:
        """Write it into a folder that has none; where another process was quicker, its plan stays."""
        path = folder / PLAN
        with output_errors(path), beside(path) as temporary:
            temporary.write_text(self.to_json() + "\n", encoding="utf-8")
            fsync(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return
            except OSError:  # no links on this disk
                os.replace(temporary, path)
            fsync(folder)


def _unreadable(path: Path, why: str) -> OutputError:
    return OutputError(f"{path} cannot be read: {why}. Remove the folder and begin anew (--no-resume, resume=False).")


def apart(name: str, ours: object, theirs: object) -> str:
    """How a value differs from another, in words; of long ones what lies where they begin to."""
    one, other = str(ours), str(theirs)
    if max(len(one), len(other)) <= _LONG:
        return f"{name} {one} instead of {other}"
    unlike = (at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    first = max(0, next(unlike, min(len(one), len(other))) - _BEFORE)
    return f"{name} {_short(one, first)} instead of {_short(other, first)}"


def _short(words: str, first: int) -> str:
    left, right = "..." if first else "", "..." if len(words) - first > _LONG else ""
    return f"{left}{words[first : first + _LONG]}{right}"


def _leaves(told: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested ones, by names such as ``how.k``."""
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
