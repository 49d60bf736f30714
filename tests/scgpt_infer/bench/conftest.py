"""A result as a benchmark gives it, made of readings without measuring anything."""

import pytest

from scgpt_infer.bench.energy import EnergySource
from scgpt_infer.bench.figures import Scale, figures
from scgpt_infer.bench.machine import MachineFacts
from scgpt_infer.bench.reading import Latencies, Reading, Run
from scgpt_infer.bench.result import FORMAT, BenchResult, BundleFacts, CellFacts, Combination, Peak, Settings
from scgpt_infer.bench.work import work_of

WHOLE_HUMAN = {"embsize": 512, "d_hid": 512, "nlayers": 12}
LENGTHS = (256, 1200)


def _reading(speed: float = 1.0, joules: float | None = 40.0) -> Reading:
    """One round: at speed 1, 20 cells a second of 256 tokens and 4 of 1,200."""
    runs = tuple(
        Run(length, cells, cells * length, 2.0 / speed, joules) for length, cells in zip(LENGTHS, (40, 8), strict=True)
    )
    return Reading(
        runs_on="OpenVINO 2026.4.1",
        why="provider openvino as asked",
        instances=2,
        threads=1,
        one_minus_cosine=6e-5,
        process_s=0.5,
        open_s=1.0 / speed,
        first_s=0.25,
        opened=600_000_000,
        opening_peak=900_000_000,
        working=650_000_000,
        working_peak=900_000_000,
        runs=runs,
        latencies=tuple(Latencies(length, (0.1 / speed,) * 9 + (0.4 / speed,)) for length in LENGTHS),
        sample=(Run(0, 64, 64 * 700, 8.0 / speed, joules),),
    )


def _scale() -> Scale:
    """A bf16 peak of 0.5 TFLOP/s, cells of 700 tokens, a price of 0.36 an hour."""
    peaks = {"bf16": Peak("bf16", 0.5, "openvino bf16")}
    return Scale(work_of(WHOLE_HUMAN), (700,) * 64, peaks, 0.36)


@pytest.fixture
def reading() -> Reading:
    """One round at speed 1."""
    return _reading()


@pytest.fixture
def result() -> BenchResult:
    """Two combinations with figures and one that did not run."""
    readings = [_reading(1.0), _reading(1.25), _reading(0.8)]
    return BenchResult(
        format=FORMAT,
        date="2026-01-02T03:04:05+00:00",
        command="scgpt-infer bench --model '<human>'",
        load=0.1,
        machine=MachineFacts("Some <CPU>", ("avx2",), 2, 4, 8_000_000_000, "Linux 6", "3.13.1", {"numpy": "2.4.6"}),
        bundle=BundleFacts("human", "ab" * 32, 12, 512, 1200, 37_748_736, 24_576),
        settings=Settings(3, 2.0, 0, 2, None, 0.36),
        energy=EnergySource("RAPL", "package-0"),
        peaks=(Peak("bf16", 0.5, "openvino bf16"),),
        cells=CellFacts("mine.h5ad", 2638, 3, 700.5, {"p5": 300, "p50": 690, "p95": 1200}, (0, 5, 9), 400, 64, 701.0),
        combinations=(
            figures("openvino", "bf16", True, readings, _scale()),
            figures("cpu", "fp32", False, [_reading(0.5, None)], _scale()),
            Combination("cpu", "bf16", False, "Bundle human has no bf16 graph for embed."),
        ),
    )
