"""Which runs are made: each case of each group, in the order in which they run.

In: what was asked for. Out: `Case`, an order with a name. It runs nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.at_scale.one import Order

__all__ = ["GROUPS", "Asked", "Case", "planned"]

NARROW = 64
"""Numbers of a vector where the disk would not hold ten million wide ones twice, as parts and as output."""

FORMATS = (".h5ad", ".parquet", ".zarr")
PACE = 1 / (6000 * 1200)
"""Seconds a token of a device that does 6,000 cells of 1,200 tokens a second."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for.

    Attributes
    ----------
    bundle
        Its vocabulary and settings count.
    folder
        Where outputs and parts go.
    cells
        Numbers of generated cells, from few to many.
    many, few
        Cells of the runs of other groups, of those in which nothing and in which a device takes time.
    stored
        Files of the same cells, by the way in which they are stored.
    """

    bundle: str
    folder: str
    cells: tuple[int, ...]
    many: int
    few: int
    stored: dict[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    group: str
    name: str
    order: Order


def planned(groups: Sequence[str], asked: Asked) -> list[Case]:
    """The cases of some groups."""
    return [case for group in groups for case in GROUPS[group](asked)]


def _sizes(asked: Asked) -> list[Case]:
    """More and more cells, to see whether memory is flat and time linear."""
    return [_case("sizes", f"{n_cells:,} generated cells", asked, n_cells=n_cells) for n_cells in asked.cells]


def _stored(asked: Asked) -> list[Case]:
    """Files, read round after round."""
    return [
        _case("stored", f"{asked.many:,} cells of a file, {way}", asked, cells=path)
        for way, path in asked.stored.items()
    ]


def _formats(asked: Asked) -> list[Case]:
    """Other formats of the output."""
    return [_case("formats", f"{asked.many:,} generated cells, to {one}", asked, suffix=one) for one in FORMATS]


def _wide(asked: Asked) -> list[Case]:
    """Vectors as wide as the model's: generated cells, and files."""
    files = [
        _case("wide", f"{asked.many:,} cells of a file, {way}, wide vectors", asked, cells=path, width=0)
        for way, path in asked.stored.items()
    ]
    return [_case("wide", f"{asked.many:,} generated cells, wide vectors", asked, width=0), *files]


def _paced(asked: Asked) -> list[Case]:
    """A device that takes time, to see whether it waits for anything."""
    what, few = "a clock of 0.14 µs a token", asked.few * 5
    return [
        _case("paced", f"{few:,} cells of a file, {way}, {what}", asked, few, cells=path, pace=PACE)
        for way, path in asked.stored.items()
    ]


def _model(asked: Asked) -> list[Case]:
    """No clock, but the demo model itself."""
    name, path = f"{asked.few:,} cells of a file, gzip, the demo model itself", asked.stored["gzip"]
    return [_case("model", name, asked, asked.few, cells=path, pace=None, bundle="demo")]


def _case(
    group: str,
    name: str,
    asked: Asked,
    n_cells: int = 0,
    *,
    suffix: str = ".npy",
    width: int = NARROW,
    cells: str = "",
    pace: float | None = 0.0,
    bundle: str = "",
) -> Case:
    order = Order(n_cells or asked.many, suffix, bundle or asked.bundle, width, cells, pace, asked.folder)
    return Case(group, name, order)


GROUPS: dict[str, Callable[[Asked], list[Case]]] = {
    "sizes": _sizes,
    "stored": _stored,
    "formats": _formats,
    "wide": _wide,
    "paced": _paced,
    "model": _model,
}
