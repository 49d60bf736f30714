"""How fast this machine multiplies matrices: PyTorch's fp32 and bf16 peak, in TFLOP/s, as JSON.

``python -m benchmarks.peers.gemm``; the driver calls it.
"""

import json
import sys
import time

import torch
from torch.nn import functional

__all__ = ["SHAPES", "peak"]

SHAPES = ((1200, 512, 512), (1200, 512, 2048), (2048, 2048, 2048), (4096, 4096, 4096))
"""Rows, depth and columns: those of the model, and squares, where libraries are at their best."""

SECONDS = 1.5
"""At least so long for each shape and type."""


def peak(dtype: torch.dtype) -> float:
    """Best TFLOP/s of any shape and any repetition."""
    return max(_rate(dtype, *shape) for shape in SHAPES)


def _rate(dtype: torch.dtype, rows: int, depth: int, columns: int) -> float:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, depth, generator=generator).to(dtype)
    weight = torch.randn(columns, depth, generator=generator).to(dtype)
    best, ends = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < ends:
        begun = time.perf_counter()
        functional.linear(x, weight)
        best = min(best, time.perf_counter() - begun)
    return 2 * rows * depth * columns / best / 1e12


def main() -> None:
    """Print the peaks."""
    with torch.inference_mode():
        json.dump({"fp32": peak(torch.float32), "bf16": peak(torch.bfloat16)}, sys.stdout)


if __name__ == "__main__":
    main()
