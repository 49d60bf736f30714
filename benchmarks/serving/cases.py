"""What is measured, case by case: servers are started, load is made, and what was found is told.

In: `Asked`. Out: facts, as JSON keeps them. Load comes from a process of its own on the same machine; its processor
time is told with every figure, since it takes cores from the server.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.serving import load, offline
from benchmarks.serving.load import BEGUN, ENDED, Order
from benchmarks.serving.server import ROOT, Server, serving
from benchmarks.serving.simulated import OPENER, RATE

__all__ = ["CASES", "Asked"]

Found = dict[str, Any]

SIMULATED = 6000.0
"""Cells a second of the clock in the place of a model: a few GPUs."""

_SETTLED = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for.

    Attributes
    ----------
    bundle
        The model, full size.
    cells
        File of cells.
    n_cells
        Different cells.
    seconds
        Of each measurement.
    minutes
        Under twice the load that can be carried.
    rounds
        How often the model by itself and behind the server are measured, in turn.
    """

    bundle: str
    cells: str
    n_cells: int
    seconds: float
    minutes: float
    rounds: int

    def order(self, server: Server, form: str, each: int, connections: int) -> Order:
        """A closed loop on a server."""
        warm = min(_SETTLED, self.seconds)
        return Order(server.port, self.cells, self.n_cells, each, form, connections, None, warm, self.seconds)


def saturation(asked: Asked) -> Found:
    """Cells a second: the engine on all cells at once, and behind HTTP in requests of 4 cells."""
    alone, behind = [], []
    for _ in range(asked.rounds):
        alone.append(_offline(asked, single=False))
        with serving(asked.bundle, {"queue_seconds": 300.0}) as server:
            behind.append(_loaded(server, asked.order(server, "binary", 4, 8)))
    rates = [found["cells_per_second"] for found in behind]
    return {
        "offline": alone,
        "served": behind,
        "share": _median(rates) / _median([x["cells_per_second"] for x in alone]),
    }


def overhead(asked: Asked) -> Found:
    """Milliseconds of a single cell: in the engine's own process, and behind HTTP, one connection; cell by cell."""
    alone = [_offline(asked, single=True)]
    with serving(asked.bundle, {}) as server:
        behind = _loaded(server, asked.order(server, "binary", 1, 1))
    alone.append(_offline(asked, single=True))
    with serving(asked.bundle, {}, OPENER, {RATE: "0"}) as server:
        without = _loaded(server, asked.order(server, "binary", 1, 1))
    by_itself = np.median([found["times_ms"] for found in alone], axis=0)
    added = [took - by_itself[number] for number, took in enumerate(behind["by_request_ms"]) if took is not None]
    return {
        "offline_p50_ms": _median(by_itself.tolist()),
        "served": behind,
        "p50_overhead_ms": _median(added),
        "without_a_model": without,
    }


def frontends(asked: Asked) -> Found:
    """What front ends carry at a clock of 6,000 cells a second: each form, one and two processes."""
    found: Found = {"clock": SIMULATED}
    for form in ("binary", "arrow", "json-npy", "json"):
        for number in (1, 2):
            with serving(asked.bundle, {"frontends": number}, OPENER, {RATE: str(SIMULATED)}) as server:
                found[f"{form}, {number}"] = _loaded(server, asked.order(server, form, 64, 8 * number))
    return found


def overload(asked: Asked) -> Found:
    """Twice the load that the model can carry, one cell a request, for minutes."""
    with serving(asked.bundle, {"queue_seconds": 5.0}) as server:
        capacity = _loaded(server, asked.order(server, "binary", 1, 32))["cells_per_second"]
        return {"capacity": capacity, "queue_seconds": 5.0, **_pressed(asked, server, 2 * capacity)}


def crowd(asked: Asked) -> Found:
    """The same with a clock of 200 cells a second: more than ten times the requests."""
    with serving(asked.bundle, {"queue_seconds": 1.0}, OPENER, {RATE: "200"}) as server:
        return {"capacity": 200.0, "queue_seconds": 1.0, **_pressed(asked, server, 400.0)}


CASES: Mapping[str, Callable[[Asked], Found]] = {
    "saturation": saturation,
    "overhead": overhead,
    "frontends": frontends,
    "overload": overload,
    "crowd": crowd,
}


def _pressed(asked: Asked, server: Server, rate: float) -> Found:
    """Open load at a rate, and the server's memory meanwhile."""
    order = replace(asked.order(server, "binary", 1, 2000), rate=rate, seconds=60 * asked.minutes)
    with server.watched():
        found = _loaded(server, order)
    return {"rate": rate, **found, "memory": [(round(at, 1), size) for at, size in server.memory]}


def _loaded(server: Server, order: Order) -> Found:
    """What a load found, and the processor time of the server's processes meanwhile."""
    used: dict[str, dict[str, float]] = {}
    words = [sys.executable, "-m", load.__name__]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asdict(order)))
        process.stdin.close()
        for line in process.stdout:
            if line.strip() in (BEGUN, ENDED):
                used[line.strip()] = server.used()
            else:
                found: Found = json.loads(line)
    found["server_cpu_seconds"] = {
        role: round(used[ENDED][role] - used[BEGUN].get(role, 0.0), 2) for role in used[ENDED]
    }
    found["order"] = {name: value for name, value in asdict(order).items() if name not in ("port", "cells", "model")}
    return found


def _offline(asked: Asked, single: bool) -> Found:
    order = asdict(offline.Order(asked.bundle, asked.cells, asked.n_cells, single))
    words = [sys.executable, "-m", offline.__name__]
    done = subprocess.run(words, input=json.dumps(order), stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def _median(values: list[float]) -> float:
    return float(np.median(values))
