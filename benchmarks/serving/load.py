"""Load on a server from a process of its own: an `Order` as JSON on standard input, what was found as JSON back.

``python -m benchmarks.serving.load``. Closed loop: each connection asks again as soon as it is answered, or when a
refusal tells it to. Open loop: requests come at random moments (a Poisson process) at a rate, whether or not earlier
ones are answered, and their time counts from the moment at which they came.
"""

import asyncio
import itertools
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.bodies import Body, bodies, rows_of
from benchmarks.serving.line import Line, Told

__all__ = ["BEGUN", "ENDED", "LOST", "Order", "Ready", "run"]

LOST = 0
"""Status under which a request is counted whose connection broke."""

BEGUN, ENDED = "begun", "ended"
"""Lines on standard output."""

_SLICE = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """What load is made.

    Attributes
    ----------
    port
        Of the server on this machine.
    cells
        File of cells.
    n_cells
        Different cells, asked about in turn.
    each
        Cells of a request.
    form
        How they are told; see `benchmarks.serving.bodies.FORMS`.
    connections
        Most that are open; in a closed loop all of them ask.
    rate
        Requests a second of an open loop. None: a closed loop.
    warm_seconds, seconds
        How long is asked before anything counts, and how long then.
    model
        Its name.
    """

    port: int
    cells: str
    n_cells: int
    each: int
    form: str
    connections: int
    rate: float | None
    warm_seconds: float
    seconds: float
    model: str = "model"


@dataclass(frozen=True, slots=True)
class Ready:
    """A request as it goes over the wire, with its number and the cells in it."""

    data: bytes
    cells: int
    number: int


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended: seconds by `time.perf_counter` and of the model, status, cells and number."""

    at: float
    seconds: float
    infer: float
    status: int
    cells: int
    number: int


@dataclass(slots=True)
class Tally:
    """Requests as they end, and between which moments they count."""

    begun: float = 0.0
    until: float = 0.0
    ends: list[End] = field(default_factory=list)

    def count(self, came: float, told: Told | None, request: Ready) -> None:
        """A request has ended; with nothing, where the connection broke."""
        now = time.perf_counter()
        status, infer = (LOST, 0.0) if told is None else (told.status, told.infer_ms / 1000)
        self.ends.append(End(now, now - came, infer, status, request.cells, request.number))

    def found(self, used: float) -> dict[str, Any]:
        """What was counted between the two moments; ``used`` seconds of processor by this process meanwhile."""
        inside = [end for end in self.ends if self.begun <= end.at < self.until]
        good = [end for end in inside if end.status == 200]
        seconds = self.until - self.begun
        n_slices = max(1, int(seconds // _SLICE))
        slices: list[list[float]] = [[] for _ in range(n_slices)]
        for end in good:
            slices[min(n_slices - 1, int((end.at - self.begun) // _SLICE))].append(end.seconds)
        return {
            "seconds": seconds,
            "cells_per_second": sum(end.cells for end in good) / seconds,
            "statuses": {str(status): count for status, count in sorted(Counter(e.status for e in inside).items())},
            "answered_ms": _percentiles([end.seconds for end in good]),
            "beside_infer_ms": _percentiles([end.seconds - end.infer for end in good]),
            "refused_ms": _percentiles([end.seconds for end in inside if end.status == 429]),
            "p99_ms_of_slices": [_percentiles(one).get("p99") for one in slices],
            "by_request_ms": _by_number([(end.number, 1000 * end.seconds) for end in good]),
            "load_cpu_seconds": used,
        }


async def run(order: Order, requests: list[Ready], say: Callable[[str], None] = lambda word: None) -> dict[str, Any]:
    """Make the load and tell what came of it.

    Parameters
    ----------
    order
        What load.
    requests
        What is asked, in turn.
    say
        Told `BEGUN` and `ENDED` when what counts begins and ends: others can look at the server then.
    """
    tally, turns = Tally(), itertools.cycle(requests)
    tally.begun = time.perf_counter() + order.warm_seconds
    tally.until = tally.begun + order.seconds
    if order.rate is None:
        clients = [_closed(order, turns, tally) for _ in range(order.connections)]
    else:
        clients = [_open(order, order.rate, turns, tally)]
    going = asyncio.gather(*clients)
    await asyncio.sleep(order.warm_seconds)
    before = _used()
    say(BEGUN)
    await asyncio.sleep(tally.until - time.perf_counter())
    used = _used() - before
    say(ENDED)
    await going
    return tally.found(used)


async def _closed(order: Order, turns: Iterator[Ready], tally: Tally) -> None:
    """A client that always waits for one answer."""
    line = await Line.to("127.0.0.1", order.port)
    while time.perf_counter() < tally.until:
        line, told = await _one(order, line, next(turns), time.perf_counter(), tally)
        if told is not None and told.retry_after:
            await asyncio.sleep(min(told.retry_after, max(0.0, tally.until - time.perf_counter())))
    line.close()


async def _open(order: Order, rate: float, turns: Iterator[Ready], tally: Tally) -> None:
    """Clients that come when they come."""
    draw, free, n_lines = np.random.default_rng(0), asyncio.Queue[Line](), 0
    going: set[asyncio.Task[None]] = set()

    async def visit(came: float, request: Ready) -> None:
        nonlocal n_lines
        if free.empty() and n_lines < order.connections:
            n_lines += 1
            line = await Line.to("127.0.0.1", order.port)
        else:
            line = await free.get()
        line, _ = await _one(order, line, request, came, tally)
        free.put_nowait(line)

    comes = time.perf_counter()
    while (comes := comes + draw.exponential(1 / rate)) < tally.until:
        await asyncio.sleep(max(0.0, comes - time.perf_counter()))
        task = asyncio.create_task(visit(comes, next(turns)))
        going.add(task)
        task.add_done_callback(going.discard)
    await asyncio.gather(*going)
    while not free.empty():
        free.get_nowait().close()


async def _one(order: Order, line: Line, request: Ready, came: float, tally: Tally) -> tuple[Line, Told | None]:
    """Ask once; gives what came back, and the connection for the next request: a new one where this one broke."""
    told = None
    try:
        told = await line.ask(request.data)
    except ConnectionError:
        line = await Line.to("127.0.0.1", order.port)
    tally.count(came, told, request)
    return line, told


def written(body: Body, port: int) -> bytes:
    """A request as it goes over the wire."""
    headers = {"Host": f"127.0.0.1:{port}", **body.headers, "Content-Length": str(len(body.data))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {body.path} HTTP/1.1\r\n{lines}\r\n".encode() + body.data


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    told = np.percentile(1000 * np.array(seconds), (50, 90, 99, 100))
    return dict(zip(("p50", "p90", "p99", "max"), told.round(3).tolist(), strict=True))


def _by_number(times: list[tuple[int, float]]) -> list[float | None]:
    """Median milliseconds of each request that came again and again; None for one that was never answered."""
    of: list[list[float]] = [[] for _ in range(max((number for number, _ in times), default=-1) + 1)]
    for number, took in times:
        of[number].append(took)
    return [float(np.median(one)) if one else None for one in of]


def main() -> None:
    """Do what standard input asks for."""
    import uvloop

    order = Order(**json.load(sys.stdin))
    made = bodies(*rows_of(Path(order.cells), order.n_cells), order.each, order.form, order.model)
    requests = [Ready(written(body, order.port), body.cells, number) for number, body in enumerate(made)]
    found = uvloop.run(run(order, requests, lambda word: print(word, flush=True)))
    found["request_bytes_per_cell"] = sum(len(one.data) for one in requests) / sum(one.cells for one in requests)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
