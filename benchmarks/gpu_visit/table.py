"""The results of a visit as Markdown: parity, rates and shares, ratios, kernels, and what did not run.

In: the JSON document. Out: text. It divides and picks the best; everything else was measured.
"""

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["markdown", "short"]

Record = dict[str, Any]
Row = dict[str, Any]

GIVEN_NAME = 60
"""Letters of a kernel's name."""


def markdown(record: Record) -> str:
    """The whole text."""
    sections = [
        ("Parity on the golden cells", _parity(record)),
        ("The contract: same cell, same vector", _contract(record)),
        ("Peaks", _peaks(record)),
        ("Cells a second by length", _lengths(record)),
        ("Tokens in a batch", _budgets(record)),
        ("Cells to vectors, pbmc3k's lengths", _cells(record)),
        ("PyTorch in the same run", _contest(record, "peers")),
        ("Compiled PyTorch in the same run", _contest(record, "compiled")),
        ("Kernels of one batch", _kernels(record)),
        ("Stages", _stages(record)),
    ]
    return _text(record, sections)


def short(record: Record) -> str:
    """What a terminal shows last."""
    sections = [
        ("Parity", _parity(record)),
        ("Cells a second by length", _lengths(record)),
        ("PyTorch", _ratios(record)),
        ("Cells to vectors", _cells(record)),
        ("Stages", _stages(record)),
    ]
    return _text(record, sections)


def _text(record: Record, sections: Sequence[tuple[str, str]]) -> str:
    mark = f" ({record['note']})" if record["rehearsal"] else ""
    parts = [f"# {_title(record)}{mark}", _conditions(record)]
    parts += [f"## {title}{mark}\n\n{text}" for title, text in sections if text]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(record: Record) -> str:
    return str(record["device"].get("name") or ("No GPU" if record["rehearsal"] else "Unknown GPU"))


def _conditions(record: Record) -> str:
    found = _found(record, "facts")
    state, versions = found.get("state", {}), found.get("versions", {})
    named = ("driver_version", "clocks.sm", "clocks.mem", "power.limit", "memory.total")
    told = [f"{name} {state[name]}" for name in named if name in state]
    told += [f"{name} {found}" for name, found in versions.items() if found != "not installed"]
    model = record["model"]
    size = f"{model['nlayers']} layers of {model['embsize']}, random weights, seed {record['seed']}" if model else ""
    lines = [f"Measured on {record['began']} UTC. {', '.join(told)}.", size and f"Model: {size}."]
    return "\n".join(line for line in lines if line)


def _found(record: Record, stage: str) -> Row:
    return dict(record["stages"].get(stage, {}).get("found", {}))


def _rows(record: Record, stage: str, name: str) -> list[Row]:
    return list(_found(record, stage).get(name, []))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines]) if lines else ""


def _way(row: Row) -> str:
    return f"{row['precision']} {row['dialect']}" + (" (CUDA graph)" if row.get("recorded") else "")


def _parity(record: Record) -> str:
    rows = []
    for row in _rows(record, "parity", "ways"):
        if "error" in row:
            rows.append([_way(row), "-", "-", "-", row["error"].splitlines()[0][:120]])
        else:
            figures = [f"{row[name]:.1e}" for name in ("one_minus_cosine", "relative", "limit")]
            rows.append([_way(row), *figures, "yes" if row["ok"] else "**no**"])
    return _table(["graph", "largest 1 - cosine", "largest relative error", "limit of 1 - cosine", "within"], rows)


def _contract(record: Record) -> str:
    rows = _rows(record, "parity", "contract")
    ways = list(dict.fromkeys((row["precision"], row["dialect"]) for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    known = {(row["precision"], row["dialect"], row["case"]): row for row in rows}
    lines = []
    for way in ways:
        cells = [known.get((*way, case)) for case in cases]
        lines.append([" ".join(way), *("-" if cell is None else _gap(cell) for cell in cells)])
    return _table(["graph", *cases], lines)


def _gap(row: Row) -> str:
    told = "equal" if row["difference"] == 0 else f"{row['difference']:.1e}" if row["difference"] is not None else "NaN"
    return told if row["ok"] else f"**{told}**"


def _peaks(record: Record) -> str:
    rows = [
        [f"{row['precision']} {_shape(row)}", _speed(record, row["tflops"], " TFLOP/s")]
        for row in _rows(record, "peaks", "products")
    ]
    rows += [[row["kind"], _speed(record, row["gbps"], " GB/s")] for row in _rows(record, "peaks", "copies")]
    return _table(["PyTorch", "median (least to most)"], rows)


def _shape(row: Row) -> str:
    return " x ".join(f"{row[name]:,}" for name in ("rows", "depth", "columns"))


def _lengths(record: Record) -> str:
    """The best batch size of each graph at each length."""
    rows = _rows(record, "sweep", "rows")
    peaks = _found(record, "peaks").get("best", {})
    lengths = sorted({row["length"] for row in rows})
    lines = []
    for way in dict.fromkeys(_way(row) for row in rows):
        cells = []
        for length in lengths:
            mine = [row for row in rows if _way(row) == way and row["length"] == length]
            cells.append(_best(record, mine, peaks))
        lines.append([way, *cells])
    return _table(["graph", *(f"{length:,} tokens" for length in lengths)], lines)


def _best(record: Record, rows: list[Row], peaks: dict[str, float]) -> str:
    if not rows:
        return "-"
    row = max(rows, key=lambda row: row["spread"]["median"])
    peak = peaks.get(row["precision"])
    share = f", {100 * row['tflops'] / peak:.0f} % of peak" if peak else ""
    return _speed(record, row["spread"], f"{share}; {row['budget']:,} a batch")


def _budgets(record: Record) -> str:
    """Every batch size of the fastest graph."""
    rows = _rows(record, "sweep", "rows")
    if not rows:
        return ""
    longest = max(row["length"] for row in rows)
    best = _way(max((row for row in rows if row["length"] == longest), key=lambda row: row["spread"]["median"]))
    mine = [row for row in rows if _way(row) == best]
    lengths, budgets = (sorted({row[name] for row in mine}) for name in ("length", "budget"))
    known = {(row["length"], row["budget"]): row for row in mine}
    lines = []
    for length in lengths:
        found = [known.get((length, budget)) for budget in budgets]
        lines.append([f"{length:,}", *("-" if row is None else _speed(record, row["spread"]) for row in found)])
    return f"{best}, cells a second.\n\n" + _table(["length", *(f"{one:,} tokens" for one in budgets)], lines)


def _cells(record: Record) -> str:
    found = _found(record, "cells")
    rows = []
    for row in found.get("rows", []):
        if "error" in row:
            rows.append([_way(row), "-", "-", row["error"].splitlines()[0][:120]])
        else:
            shares = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in row["share"].items())
            rows.append([_way(row), f"{row['batch_tokens']:,}", _speed(record, row["spread"]), shares])
    parts = [_table(["graph", "tokens in a batch", "cells a second", "share of the time in stages"], rows)]
    auto, idle = found.get("auto", {}), found.get("idle", {})
    if auto:
        why = "" if record["rehearsal"] else f" ({auto.get('why')})"
        told = auto.get("error") or f"{auto['choice']}{why}"
        rate = "" if "error" in auto else _speed(record, dict.fromkeys(("median", "low", "high"), auto["rate"]))
        parts.append(f"Asked for nothing (`auto`), cells a second: {rate or '-'}; {told}.")
    if idle:
        told = idle.get("why") or f"{100 * idle['share']:.1f} % of {idle['seconds']:.2f} s"
        parts.append(f"The GPU did nothing during: {told} (traced, {idle['way']}).")
    return "\n\n".join(part for part in parts if part)


def _contest(record: Record, stage: str) -> str:
    rates = _rows(record, stage, "rates")
    known = {(row["workload"], row["name"]): row for row in rates}
    ratios = {(row["workload"], row["peer"]): row["spread"] for row in _rows(record, stage, "ratios")}
    workloads = list(dict.fromkeys(row["workload"] for row in rates))
    lines = []
    for row in _rows(record, stage, "contenders"):
        if "error" in row:
            lines.append([row["name"], row["error"].splitlines()[0][:120], *["-"] * (2 * len(workloads))])
            continue
        cells = [f"{row['one_minus_cosine']:.1e}"]
        for workload in workloads:
            rate, ratio = known.get((workload, row["name"])), ratios.get((workload, row["name"]))
            cells += [_speed(record, one) if one else "-" for one in (rate and rate["spread"], ratio)]
        lines.append([row["name"], *cells])
    heads = [head for workload in workloads for head in (f"{workload}: cells a second", "we are so many times faster")]
    return _table(["contender", "largest 1 - cosine", *heads], lines)


def _ratios(record: Record) -> str:
    rows = [
        [row["peer"], row["workload"], _speed(record, row["spread"]), row["ours"]]
        for stage in ("peers", "compiled")
        for row in _rows(record, stage, "ratios")
    ]
    return _table(["peer", "workload", "we are so many times faster", "our graph"], rows)


def _kernels(record: Record) -> str:
    """The ten longest kernels of the graph that is fastest, as traced, then with the bytes that were counted."""
    traces = [row for row in _rows(record, "profile", "traces") if row.get("kernels")]
    if not traces:
        return ""
    row = min(traces, key=lambda row: (row["busy"] + row["gaps"]["seconds"]) / row["cells"])
    gaps = row["gaps"]
    about = f"{row['way']}: {row['cells']} cells of {row['length']:,} tokens, {row['busy'] * 1e3:.3f} ms at work, "
    about += f"{gaps['count']} gaps of {gaps['median'] * 1e6:.1f} µs, {gaps['seconds'] * 1e3:.3f} ms in all."
    parts = [about, _table(["kernel, traced", "calls", "time", "share"], [_kernel(one) for one in row["kernels"]])]
    for one in _rows(record, "profile", "counters"):
        if one["way"] == row["way"].split(",")[0]:
            rows = [[*_kernel(kernel), _moved(kernel)] for kernel in one.get("kernels", [])]
            head = [
                "kernel, alone (Nsight Compute)",
                "calls",
                "time",
                "share",
                "device memory: read, written, together",
            ]
            parts.append(_table(head, rows) or f"Bytes were not counted: {one['error'].strip().splitlines()[-1]}")
    return "\n\n".join(parts)


def _kernel(row: Row) -> list[str]:
    name = row["name"].replace("|", "/")[:GIVEN_NAME]
    return [name, str(row["calls"]), f"{row['seconds'] * 1e6:.0f} µs", f"{100 * row['share']:.1f} %"]


def _moved(row: Row) -> str:
    read, written = row["bytes_read"], row["bytes_written"]
    rate = (read + written) / row["seconds"] / 1e12
    return f"{read / 1e6:.1f} MB, {written / 1e6:.1f} MB, {rate:.2f} TB/s"


def _stages(record: Record) -> str:
    rows = []
    for name, stage in record["stages"].items():
        seconds = f"{stage['seconds']:.0f} s" if "seconds" in stage else "-"
        why = next((line for line in reversed(stage.get("why", "").splitlines()) if line.strip()), "")
        rows.append([name, stage["status"], seconds, why.replace("|", "/")[:160]])
    parts = [_table(["stage", "came to", "took", "why"], rows)]
    useless, summary = _found(record, "facts").get("useless"), _found(record, "checks").get("summary")
    parts += [f"The visit ended here. {useless}"] if useless else []
    parts += [f"Tests: {summary}"] if summary else []
    return "\n\n".join(parts)


def _speed(record: Record, found: Row, unit: str = "") -> str:
    """A rate or a ratio with its spread. That of a rehearsal is not shown: it says nothing of a GPU."""
    return "ran" if record["rehearsal"] else f"{_spread(found)}{unit}"


def _spread(found: Row) -> str:
    if found["median"] is None:
        return "-"
    low, high, middle = (_number(found[name]) for name in ("low", "high", "median"))
    return middle if low == high else f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
