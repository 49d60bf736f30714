"""Stage ``peaks``: what products and copies reach on this GPU at best, by PyTorch, on random data.

found: products [{precision, rows, depth, columns, tflops: spread}], best {precision: TFLOP/s}, copies [{kind, bytes,
gbps: spread}]. Events on the device time runs of several products; copies on the device count bytes read and written.
The bundle may be made on the processor meanwhile.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch

from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.study.figures import Spread, spread

__all__ = ["best", "run", "seconds_of"]

SQUARE = 8192
MODEL_ROWS = (4096, 16384, 65536)
MODEL_COLUMNS = (512, 1536)
DEPTH = 512
"""Width of the model, whose products are rows x 512 x 512, or x 1,536 where queries, keys and values are one."""

COPY_BYTES = 2**32
HOST_BYTES = 2**28
ROUNDS = 9


def run(ask: Ask, part: Part) -> None:
    """Measure products in each precision, then copies."""
    for precision, dtype in _dtypes(ask).items():
        for rows, depth, columns in _shapes(ask):
            rate = _product(ask, dtype, rows, depth, columns)
            shape = {"rows": rows, "depth": depth, "columns": columns}
            part.add("products", {"precision": precision} | shape | {"tflops": asdict(rate)})
        part.put("best", best(part.found["products"]))
        part.say(f"{precision}: {part.found['best'][precision]:.3g} TFLOP/s")
    for kind, (size, rate) in _copies(ask).items():
        part.add("copies", {"kind": kind, "bytes": size, "gbps": asdict(rate)})
        part.say(f"{kind}: {rate.median:.0f} GB/s")


def best(products: list[dict[str, Any]]) -> dict[str, float]:
    """Median rate of the fastest shape of each precision."""
    found: dict[str, float] = {}
    for row in products:
        rate = float(row["tflops"]["median"])
        found[row["precision"]] = max(rate, found.get(row["precision"], 0.0))
    return found


def _dtypes(ask: Ask) -> dict[str, torch.dtype]:
    wide = {"fp32": torch.float32}
    return wide if ask.rehearsal else {"fp16": torch.float16, "bf16": torch.bfloat16} | wide


def _shapes(ask: Ask) -> list[tuple[int, int, int]]:
    if ask.rehearsal:
        return [(256, 256, 256)]
    model = [(rows, DEPTH, columns) for rows in MODEL_ROWS for columns in MODEL_COLUMNS]
    return [(SQUARE, SQUARE, SQUARE), *model]


def _product(ask: Ask, dtype: torch.dtype, rows: int, depth: int, columns: int) -> Spread:
    """TFLOP/s of x @ w, several sets of inputs in turn so that caches do not serve them."""
    torch.backends.cuda.matmul.allow_tf32 = False
    made = torch.Generator(ask.device).manual_seed(ask.seed)
    sets = 2 if rows == SQUARE else 8
    pairs = [
        tuple(torch.randn(*shape, device=ask.device, generator=made).to(dtype) for shape in shapes)
        for shapes in [((rows, depth), (depth, columns))] * sets
    ]
    outputs = [torch.empty(rows, columns, dtype=dtype, device=ask.device) for _ in pairs]

    def all_sets() -> None:
        for (x, weight), output in zip(pairs, outputs, strict=True):
            torch.mm(x, weight, out=output)

    operations = 2.0 * rows * depth * columns * sets
    work = all_sets if ask.rehearsal else _recorded(all_sets)
    return spread([operations / seconds / 1e12 for seconds in seconds_of(work, ask.device, ROUNDS)])


def _recorded(work: Callable[[], None]) -> Callable[[], None]:
    """Some work as a CUDA graph: launching small products takes longer than they do."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def replay() -> None:
        graph.replay()

    return replay


def _copies(ask: Ask) -> dict[str, tuple[int, Spread]]:
    """Bytes and GB/s of copies on the device, and from pinned memory to it and back."""
    size = 2**22 if ask.rehearsal else COPY_BYTES
    x = torch.randint(0, 255, (size,), dtype=torch.uint8, device=ask.device)
    y = torch.empty_like(x)
    found = {"on the device": _rate(lambda: y.copy_(x), 2 * size, ask)}
    small = min(size, HOST_BYTES)
    host = torch.randint(0, 255, (small,), dtype=torch.uint8)
    host = host if ask.rehearsal else host.pin_memory()
    part = x[:small]
    found["pinned host to device"] = _rate(lambda: part.copy_(host, non_blocking=True), small, ask)
    found["device to pinned host"] = _rate(lambda: host.copy_(part, non_blocking=True), small, ask)
    return found


def _rate(copy: Callable[[], Any], size: int, ask: Ask) -> tuple[int, Spread]:
    return size, spread([size / seconds / 1e9 for seconds in seconds_of(copy, ask.device, ROUNDS)])


def seconds_of(work: Callable[[], Any], device: str, rounds: int) -> list[float]:
    """Seconds of each round, by events on the device after warm-up; by the clock on a processor."""
    for _ in range(3):
        work()
    if device == "cpu":
        found = []
        for _ in range(rounds):
            began = time.perf_counter()
            work()
            found.append(time.perf_counter() - began)
        return found
    torch.cuda.synchronize()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]  # type: ignore[no-untyped-call]  # torch has no types here
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in pairwise(marks)]
