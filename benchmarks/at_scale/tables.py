"""The record of a series as tables for people: what was measured, and what follows for more cells and devices.

In: a record as JSON has it. Out: markdown, which says of each figure whether it was measured, or follows from an
assumption.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.at_scale.estimate import Device, Rates, devices_at_limit, estimate

__all__ = ["duration", "measured_table", "rates_of", "scale_table", "stages_table"]

CELLS = (1_000_000, 10_000_000, 100_000_000)
DEVICES = (1, 4, 16, 64)


def measured_table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each run."""
    lines = [
        "| run | cells | seconds | cells/s | until the last part, cells/s | merge, cells/s | cores busy | "
        "peak memory, MB | parts, MB | output, MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        found, n_cells = run["found"], run["order"]["n_cells"]
        merge = found["seconds"] - found["parts_seconds"]
        lines.append(
            f"| {name} | {n_cells:,} | {found['seconds']:,.1f} | {n_cells / found['seconds']:,.0f} | "
            f"{n_cells / found['parts_seconds']:,.0f} | {n_cells / merge:,.0f} | "
            f"{found['processor_seconds'] / found['seconds']:.2f} | {found['peak'] / 1e6:,.0f} | "
            f"{found['parts_bytes'] / 1e6:,.0f} | {found['output_bytes'] / 1e6:,.0f} |"
        )
    return "\n".join(lines)


def rates_of(run: Mapping[str, Any], input_bytes: float) -> Rates:
    """What a run with wide vectors says of all but the model.

    Parameters
    ----------
    run
        Order and what was found.
    input_bytes
        Of a cell in the file.
    """
    found, n_cells = run["found"], run["order"]["n_cells"]
    merge = found["seconds"] - found["parts_seconds"]
    return Rates(
        feeding=n_cells / found["parts_seconds"],
        merging=n_cells / merge,
        input_bytes=input_bytes,
        parts_bytes=found["parts_bytes"] / n_cells,
        output_bytes=found["output_bytes"] / n_cells,
    )


def scale_table(devices: Iterable[Device], rates: Rates) -> str:
    """Time, cost and limit for many cells on many devices, a block a kind of device; then bytes."""
    blocks = [_of_device(device, rates) for device in devices]
    return "\n\n".join([*blocks, _bytes(rates)])


def stages_table(runs: Mapping[str, Mapping[str, Any]], devices: Iterable[Device]) -> str:
    """How fast each stage is by itself, and how many devices it could serve, for runs that were measured."""
    kinds = list(devices)
    lines = [
        "| run | stage | cells/s by itself | " + " | ".join(f"serves so many: {kind.name}" for kind in kinds) + " |",
        "|---|---|---|" + "---|" * len(kinds),
    ]
    for name, run in runs.items():
        for stage, rate in _stages(run).items():
            serves = " | ".join(f"{_few(rate / kind.cells_per_second)}" for kind in kinds)
            lines.append(f"| {name} | {stage} | {rate:,.0f} | {serves} |")
    return "\n".join(lines)


def _stages(run: Mapping[str, Any]) -> dict[str, float]:
    """Cells a second of each stage by itself, and of all until the last part."""
    found, n_cells = run["found"], run["order"]["n_cells"]
    seconds = {
        "read": found["stages"]["read"],
        "tokenise": found["stages"]["tokenise"],
        "keep parts": found["stages"]["write"],
        "all until the last part": found["parts_seconds"],
        "merge": found["seconds"] - found["parts_seconds"],
    }
    return {stage: n_cells / spent for stage, spent in seconds.items()}


def _of_device(device: Device, rates: Rates) -> str:
    kind = "measured here" if device.is_measured else "assumed, not measured here"
    lines = [
        f"**{device.name}**: {device.cells_per_second:,.4g} cells/s a device ({kind}: {device.source}), "
        f"{device.price:.2f} dollars a device hour (assumed: {device.price_source}). With {rates.feeding:,.0f} cells/s "
        f"fed to each device and {rates.merging:,.0f} cells/s merged (both measured), the merge takes longer than all "
        f"else from {devices_at_limit(device, rates):,.0f} devices on.",
        "",
        "| cells | devices | until the last part | merge | in all | dollars | limit | disk: read, written, MB/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n_cells in CELLS:
        for n_devices in DEVICES:
            found = estimate(n_cells, n_devices, device, rates)
            lines.append(
                f"| {n_cells:,} | {n_devices} | {duration(found.parts_seconds)} | {duration(found.merge_seconds)} | "
                f"{duration(found.seconds)} | {found.cost:,.2f} | {found.limit} | "
                f"{_few(found.read_rate / 1e6)}, {_few(found.write_rate / 1e6)} |"
            )
    return "\n".join(lines)


def _few(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _bytes(rates: Rates) -> str:
    lines = ["| cells | input, GB | parts, GB | output, GB |", "|---|---|---|---|"]
    each = (rates.input_bytes, rates.parts_bytes, rates.output_bytes)
    lines += [f"| {n:,} | " + " | ".join(f"{n * one / 1e9:,.1f}" for one in each) + " |" for n in CELLS]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds as people say them: two units at most."""
    for unit, name, smaller, per in ((86400, "d", "h", 3600), (3600, "h", "min", 60), (60, "min", "s", 1)):
        if seconds >= unit:
            whole, rest = divmod(round(seconds / per), unit // per)
            return f"{whole:,} {name} {rest} {smaller}"
    return f"{seconds:.1f} s"
