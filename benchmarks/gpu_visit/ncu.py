"""What Nsight Compute says of kernels, from its CSV: time and bytes of device memory for each.

In: the text that ``ncu --csv`` prints. Out: rows by kernel. It starts nothing.
"""

import csv
import io
from typing import Any

__all__ = ["METRICS", "by_kernel"]

TIME = "gpu__time_duration.sum"
READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
METRICS = (TIME, READ, WRITTEN)

_SCALE = {
    **{"nsecond": 1e-9, "ns": 1e-9, "usecond": 1e-6, "us": 1e-6, "msecond": 1e-3, "ms": 1e-3, "second": 1.0, "s": 1.0},
    **{"byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9},
}
"""Units, decimal ones, to seconds and bytes."""


def by_kernel(text: str) -> list[dict[str, Any]]:
    """Calls, seconds, bytes read and written of each kernel by name, the longest first.

    Lines that ncu or the program print around the table are passed over.
    """
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    sums: dict[str, dict[str, float]] = {}
    calls: dict[str, set[str]] = {}
    for row in csv.DictReader(io.StringIO("\n".join(line for line in lines[start:] if line.startswith('"')))):
        metric = row["Metric Name"]
        if metric not in METRICS:
            continue
        value = float(row["Metric Value"].replace(",", "")) * _SCALE[row["Metric Unit"]]
        name = row["Kernel Name"]
        into = sums.setdefault(name, dict.fromkeys(METRICS, 0.0))
        into[metric] += value
        calls.setdefault(name, set()).add(row["ID"])
    whole = sum(each[TIME] for each in sums.values()) or 1.0
    rows = [
        {
            "name": name,
            "calls": len(calls[name]),
            "seconds": each[TIME],
            "share": each[TIME] / whole,
            "bytes_read": each[READ],
            "bytes_written": each[WRITTEN],
        }
        for name, each in sums.items()
    ]
    return sorted(rows, key=lambda row: -float(row["seconds"]))
