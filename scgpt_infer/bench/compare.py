"""Two results side by side: what B does for what A does, and why the two may not be comparable.

In: two results as JSON tells them. Out: `Comparison`. It measures nothing.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scgpt_infer.bench.result import FORMAT
from scgpt_runtime.errors import OptionError

__all__ = ["Comparison", "Ratio", "compare", "load"]

_Plain = dict[str, Any]

_SAME = (
    ("machine", "processor"),
    ("machine", "features"),
    ("machine", "cores_usable"),
    ("machine", "memory"),
    ("machine", "versions"),
    ("bundle", "weights"),
    ("settings", "threads"),
    ("settings", "batch_tokens"),
    ("cells", "file"),
    ("cells", "sampled_mean"),
)
"""Facts that two results should share, by section and name."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure of B over the same one of A.

    Attributes
    ----------
    combination, tokens, measure
        Which figure; `tokens` is empty where it does not depend on length.
    a, b, ratio
        Both figures, and B over A.
    more_is_better
        Whether a ratio above 1 favours B.
    clear
        Whether the rounds of A and of B do not overlap; None where there are no rounds to compare.
    """

    combination: str
    tokens: str
    measure: str
    a: float
    b: float
    ratio: float
    more_is_better: bool
    clear: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures that both results have, and what speaks against comparing them."""

    warnings: tuple[str, ...]
    ratios: tuple[Ratio, ...]

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)

    def text(self) -> str:
        """For a terminal."""
        lines = [f"warning: {warning}" for warning in self.warnings]
        lines.append(f"{'':<16} {'tokens':>7}  {'':<18} {'A':>12} {'B':>12} {'B / A':>8}")
        last = None
        for row in self.ratios:
            name = "" if row.combination == last else row.combination
            last = row.combination
            told = "" if row.clear is not False else "  rounds overlap"
            lines.append(
                f"{name:<16} {row.tokens:>7}  {row.measure:<18} {row.a:>12,.4g} {row.b:>12,.4g} {row.ratio:>8.3f}{told}"
            )
        return "\n".join(lines)


def load(path: Path) -> _Plain:
    """Read a result.

    Raises
    ------
    OptionError
        It is no result of the benchmark, or one of a newer version.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OptionError(f"{path} is not JSON: {error}. Expected a file that bench --json wrote.") from error
    if not isinstance(found, dict) or not {"format", "machine", "combinations"} <= set(found):
        raise OptionError(f"{path} is not a result of bench. Expected a file that bench --json wrote.")
    if found["format"] != FORMAT:
        raise OptionError(f"{path} has format {found['format']}; this version reads format {FORMAT}.")
    return found


def compare(a: _Plain, b: _Plain) -> Comparison:
    """Ratios of all figures that both have.

    Parameters
    ----------
    a, b
        Results as `load` gives them.

    Raises
    ------
    OptionError
        They share no combination.
    """
    ran_a, ran_b = _ran(a), _ran(b)
    ratios = [ratio for name in ran_a if name in ran_b for ratio in _ratios(name, ran_a[name], ran_b[name])]
    if not ratios:
        told_a, told_b = (", ".join(ran) or "nothing" for ran in (ran_a, ran_b))
        raise OptionError(f"The two results share no figure: A has {told_a}, B has {told_b}. Measure one again.")
    return Comparison((*_differences(a, b), *_alone(ran_a, ran_b)), tuple(ratios))


def _ran(result: _Plain) -> dict[str, _Plain]:
    """Combinations with figures, by name."""
    ran = (found for found in result["combinations"] if found["error"] is None)
    return {f"{found['provider']} {found['precision']}": found for found in ran}


def _differences(a: _Plain, b: _Plain) -> Iterator[str]:
    for section, name in _SAME:
        one, other = ((result[section] or {}).get(name) for result in (a, b))
        if one != other:
            yield f"{section}: {name} is {_told(one)} in A and {_told(other)} in B"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {told}" for name, told in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _alone(a: dict[str, _Plain], b: dict[str, _Plain]) -> Iterator[str]:
    for name in a.keys() ^ b.keys():
        yield f"{name} has figures in {'A' if name in a else 'B'} alone"


def _ratios(name: str, a: _Plain, b: _Plain) -> Iterator[Ratio]:
    at_b = {at["length"]: at for at in b["lengths"]}
    for at in (at for at in a["lengths"] if at["length"] in at_b):
        tokens, other = f"{at['length']:,}", at_b[at["length"]]
        yield from _speeds(name, tokens, at["throughput"], other["throughput"])
        yield from _one(name, tokens, "p50 ms", at["latency"]["p50_ms"], other["latency"]["p50_ms"])
        yield from _one(name, tokens, "p99 ms", at["latency"]["p99_ms"], other["latency"]["p99_ms"])
    if a["cells"] and b["cells"]:
        yield from _speeds(name, "yours", a["cells"], b["cells"])
    if a["start_up"] and b["start_up"]:
        yield _of_rounds(name, "", "start-up s", a["start_up"]["total"], b["start_up"]["total"], False)
    if a["memory"] and b["memory"]:
        yield from _one(name, "", "memory bytes", a["memory"]["opened"], b["memory"]["opened"])
    yield from _one(name, "", "1 - cosine", a["one_minus_cosine"], b["one_minus_cosine"])


def _speeds(name: str, tokens: str, a: _Plain, b: _Plain) -> Iterator[Ratio]:
    yield _of_rounds(name, tokens, "cells/s", a["cells_per_second"], b["cells_per_second"], True)
    yield from _one(name, tokens, "J a cell", a["joules_per_cell"], b["joules_per_cell"])


def _of_rounds(name: str, tokens: str, measure: str, a: _Plain, b: _Plain, more_is_better: bool) -> Ratio:
    clear = a["high"] < b["low"] or b["high"] < a["low"] if min(a["rounds"], b["rounds"]) > 1 else None
    return Ratio(name, tokens, measure, a["median"], b["median"], b["median"] / a["median"], more_is_better, clear)


def _one(name: str, tokens: str, measure: str, a: float | None, b: float | None) -> Iterator[Ratio]:
    if a and b is not None:
        yield Ratio(name, tokens, measure, a, b, b / a, False, None)
