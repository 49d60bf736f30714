"""Devices that the tables are made for: one whose rate was measured, others that are assumptions with their sources.

In: the record of the comparison with other programs, which has the rate of a processor. Out: `Device`.
"""

import json
from pathlib import Path

from benchmarks.at_scale.estimate import Device
from benchmarks.study.figures import Run, spread

__all__ = ["devices"]

_PROCESSOR_PRICE = 0.10
_GPU_PRICE = 2.00
_PROCESSOR_PRICE_SOURCE = (
    "public lists of 2026 name 0.08 for two cores on demand, "
    "factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026"
)
_GPU_PRICE_SOURCE = (
    "public lists of 2026 name 1.10 to 3.00 for an A100 of 80 GB on demand, mercatus-ai.com/blog/cloud-gpu-pricing"
)


def devices(against: Path) -> list[Device]:
    """Two cores as measured; an A100 as others report another program on it; a GPU at our goal.

    Parameters
    ----------
    against
        ``side_by_side.json``.
    """
    return [
        Device(
            "Two processor cores, bf16",
            _steady(against),
            _PROCESSOR_PRICE,
            True,
            "side by side, steady state of what `auto` takes",
            _PROCESSOR_PRICE_SOURCE,
        ),
        Device(
            "An A100 at the rate of another program",
            847.0,
            _GPU_PRICE,
            False,
            "nano-scGPT in PyTorch, compiled, as its authors report it, github.com/Danqi7/nano-scGPT",
            _GPU_PRICE_SOURCE,
        ),
        Device(
            "A GPU at our goal",
            6000.0,
            _GPU_PRICE,
            False,
            "a goal that nobody has measured: 6,000 cells of 1,200 tokens a second",
            _GPU_PRICE_SOURCE,
        ),
    ]


def _steady(against: Path) -> float:
    """Median rate of ``ours`` in the comparison."""
    entries = json.loads(against.read_text(encoding="utf-8"))["entries"]
    ours = next(entry for entry in entries if entry["name"] == "ours")
    return spread([Run(**run).steady_rate for run in ours["runs"]]).median
