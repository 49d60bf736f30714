"""The results of a visit as one JSON document, and several of them joined into one.

In: what stages found. Out: a dictionary and its files. It measures nothing.

The document::

    schema      1
    rehearsal   true: all of it ran on a processor, small, and no figure in it says anything of a GPU
    note        the same in words, empty for a visit
    began       UTC
    seed        of weights and cells
    small       true: a tiny model
    model       layers, width and feed-forward width, from the bundle
    device      name and facts of the GPU, from the stage ``facts``
    stages      name to:
        status    done | failed | stopped (at its limit) | dropped (no time) | skipped (no bundle)
        why       of all but done: the last lines that it said
        seconds   that it took, and the limit that it had
        began     UTC
        found     its rows; the module of its name says what they hold

Times are seconds, rates cells a second; ``spread`` is {median, low, high} of the rounds.
"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["NOTE", "join", "load", "new", "now", "read", "save", "slug"]

NOTE = "rehearsal: no GPU figure"

Record = dict[str, Any]


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def new(rehearsal: bool, seed: int, small: bool) -> Record:
    """A document without stages."""
    return {
        "schema": 1,
        "rehearsal": rehearsal,
        "note": NOTE if rehearsal else "",
        "began": now(),
        "seed": seed,
        "small": small,
        "model": {},
        "device": {},
        "stages": {},
    }


def slug(record: Record) -> str:
    """What its files are called after: the GPU, or that there is none."""
    if record["rehearsal"]:
        return "rehearsal"
    name = record["device"].get("name") or "unknown"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def save(record: Record, folder: Path) -> Path:
    """Write the JSON document."""
    path = folder / f"gpu.{slug(record)}.json"
    beside = path.with_suffix(".writing")
    beside.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(path)
    return path


def read(path: Path) -> Record:
    """Read what a stage has written."""
    found: Record = json.loads(path.read_text(encoding="utf-8"))
    return found


def load(path: Path) -> Record:
    """Read a JSON document.

    Raises
    ------
    SystemExit
        It is none of ours.
    """
    found = read(path)
    if not isinstance(found, dict) or found.get("schema") != 1 or "stages" not in found:
        raise SystemExit(f"{path} holds no results of benchmarks/gpu.py; expected schema 1 with stages.")
    return found


def join(records: Iterable[Record]) -> Record:
    """Several visits to one kind of GPU as one: of each stage the last run that was done, else the last.

    Raises
    ------
    SystemExit
        A rehearsal among them, or different GPUs or models.
    """
    ordered = sorted(records, key=lambda record: str(record["began"]))
    if any(record["rehearsal"] for record in ordered):
        raise SystemExit("A rehearsal holds no GPU figure, so it is not kept.")
    kinds = {(slug(record), record["small"], record["seed"]) for record in ordered}
    if len(kinds) != 1:
        raise SystemExit(f"Found results of {len(kinds)} kinds of GPU, model or seed; expected one: {sorted(kinds)}.")
    joined = ordered[-1] | {"began": ordered[0]["began"], "stages": {}}
    for record in ordered:
        joined["model"] = record["model"] or joined["model"]
        for name, stage in record["stages"].items():
            before = joined["stages"].get(name)
            if before is None or stage["status"] == "done" or before["status"] != "done":
                joined["stages"][name] = stage
    return joined
