"""What the GPU did meanwhile: kernels and copies of this process with start and end, whoever launched them.

In: some work. Out: activities, and sums over them. PyTorch's profiler is only the ear: CUPTI hears every kernel of the
process, ONNX Runtime's too.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_visit.part import Ask

__all__ = ["Activity", "by_kernel", "gaps", "idle", "read", "traced"]

KINDS = ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass(frozen=True, slots=True)
class Activity:
    """A kernel or copy: its name, kind, and when it ran, in seconds."""

    name: str
    kind: str
    start: float
    seconds: float

    @property
    def end(self) -> float:
        """When it was over."""
        return self.start + self.seconds


def traced(ask: Ask, work: Callable[[], Any]) -> list[Activity]:
    """Do some work and tell what the GPU did; in a rehearsal nothing."""
    if ask.rehearsal:
        work()
        return []
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return read(path)


def read(path: Path) -> list[Activity]:
    """Activities of a trace in Chrome's format, in the order in which they began."""
    events = json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
    found = [
        Activity(event["name"], event["cat"], event["ts"] / 1e6, event.get("dur", 0) / 1e6)
        for event in events
        if event.get("ph") == "X" and event.get("cat") in KINDS
    ]
    return sorted(found, key=lambda one: one.start)


def idle(activities: Sequence[Activity]) -> dict[str, Any]:
    """Share of the time from the first activity to the last in which none ran."""
    if not activities:
        return {"share": None, "why": "no activity of a GPU was seen"}
    whole = max(one.end for one in activities) - activities[0].start
    waited = sum(gaps(activities))
    return {"share": waited / whole if whole else 0.0, "seconds": whole, "activities": len(activities)}


def gaps(activities: Sequence[Activity]) -> list[float]:
    """Seconds of each time in which nothing ran."""
    found, end = [], activities[0].end if activities else 0.0
    for one in activities[1:]:
        if one.start > end:
            found.append(one.start - end)
        end = max(end, one.end)
    return found


def by_kernel(activities: Sequence[Activity]) -> list[dict[str, Any]]:
    """Calls and seconds of each kernel and copy by name, the longest first, with its share of their sum."""
    sums: dict[tuple[str, str], list[float]] = {}
    for one in activities:
        sums.setdefault((one.name, one.kind), []).append(one.seconds)
    whole = sum(sum(each) for each in sums.values()) or 1.0
    rows = [
        {"name": name, "kind": kind, "calls": len(each), "seconds": sum(each), "share": sum(each) / whole}
        for (name, kind), each in sums.items()
    ]
    return sorted(rows, key=lambda row: -float(row["seconds"]))
