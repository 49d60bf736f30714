"""Which matrix is read, and what its values are.

Matrices come in by name, the chosen one goes out with the reason. Nothing here reads a file: what
is known is a sample of rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.matrix import Rows, sample
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["Counts", "Look", "choose", "recognise"]

# Above this no value is a logarithm of counts: log1p(4e8) is 20.
LOG_CEILING = 20.0
# Spread of row sums, as a part of their median, up to which they are one sum rounded.
SAME_SUM = 0.05


@dataclass(frozen=True, slots=True)
class Look:
    """What a sample of rows says of a matrix.

    Attributes
    ----------
    values
        ``"integer"``, ``"log1p"``, ``"normalised"`` or ``"scaled"``.
    n_rows
        Rows sampled.
    n_negative
        Rows of them with a negative value.
    """

    values: str
    n_rows: int
    n_negative: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The matrix that is read.

    Attributes
    ----------
    name
        ``"X"``, ``"layers/NAME"`` or ``"raw/X"``.
    rows
        The matrix, open.
    values
        What its values are, see `recognise`.
    why
        Why it is this one, in words.
    """

    name: str
    rows: Rows
    values: str
    why: str


def recognise(block: CellBlock, logged: bool) -> Look:
    """What the values of a matrix are, told from sampled rows.

    The rule, first match wins; NaN and infinite values are left out of it:

    1. ``scaled``: more than half of the rows hold a negative value.
    2. ``integer``: all values are whole numbers.
    3. ``normalised``: a value reaches 20, which no log1p of counts does; or the row sums are nearly
       equal, and more nearly than the row sums of ``expm1``.
    4. ``log1p``: the row sums of ``expm1`` are nearly equal (their 5th and 95th percentile lie within
       5 % of the median), or the file says that it was logged (``uns["log1p"]``).
    5. ``normalised``: everything else.

    Parameters
    ----------
    block
        Sampled rows.
    logged
        Whether the file says that its values were logged.
    """
    cells = np.repeat(np.arange(block.n_cells), np.diff(block.indptr))  # (n_values,) row of each value
    n_negative = len(np.unique(cells[block.data < 0]))
    finite = np.isfinite(block.data)
    values, cells = block.data[finite].astype(np.float64), cells[finite]
    if 2 * n_negative > block.n_cells:
        kind = "scaled"
    elif np.all(values == np.rint(values)):
        kind = "integer"
    elif values.max() >= LOG_CEILING:
        kind = "normalised"
    else:
        plain = _spread(values, cells, block.n_cells)
        unlogged = _spread(np.expm1(values), cells, block.n_cells)
        equal_sums = plain <= SAME_SUM and plain < unlogged
        kind = "log1p" if not equal_sums and (unlogged <= SAME_SUM or logged) else "normalised"
    return Look(kind, block.n_cells, n_negative)


def choose(matrices: Mapping[str, Callable[[], Rows]], layer: str | None, logged: bool, where: str) -> Counts:
    """Choose the matrix to read: the one asked for, else ``layers["counts"]``, else ``X``, else ``raw``.

    ``raw`` is taken unasked only where ``X`` is scaled and ``raw`` is not.

    Parameters
    ----------
    matrices
        Name (``"X"``, ``"layers/NAME"``, ``"raw/X"``) to a function that opens the matrix.
    layer
        ``"X"``, ``"raw"`` or the name of a layer, where the user asks for one.
    logged
        Whether the file says that its values were logged.
    where
        Name of the file or object in messages.

    Raises
    ------
    CellsError
        If there is no such matrix, or the one to read is scaled and nothing may stand for it.
    """
    name = _named(layer, matrices, where)
    rows = matrices[name]()
    look = recognise(sample(rows), logged)
    if look.values != "scaled":
        why = "it was asked for" if layer is not None else _REASONS.get(name, "")
        return Counts(name, rows, look.values, why)
    rows.close()
    found = f"{name} is scaled: {look.n_negative:,} of {look.n_rows:,} sampled cells have a negative value"
    fit = _fit(matrices, name, logged)
    if layer is None and name == "X" and "raw/X" in fit:
        return Counts("raw/X", matrices["raw/X"](), fit["raw/X"], f"{found}; raw is not")
    remedy = (
        f"Choose another matrix of it: {', '.join(_option(other) for other in fit)}."
        if fit
        else "No other matrix of it would do: get the file from before scaling."
    )
    raise CellsError(f"{where}: {found}; expected counts, or values that were only normalised or logged. {remedy}")


_REASONS = {"layers/counts": "there is a layer 'counts'", "X": "there is no layer 'counts'"}


def _named(layer: str | None, matrices: Mapping[str, object], where: str) -> str:
    if layer is None:
        for name in ("layers/counts", "X"):
            if name in matrices:
                return name
        what = "has no X and no layer 'counts'"
    else:
        for name in ({"X": "X", "raw": "raw/X"}.get(layer, f"layers/{layer}"), layer):
            if name in matrices:
                return name
        what = "has no raw" if layer == "raw" else "has no X" if layer == "X" else f"has no layer {layer!r}"
    there = ", ".join(_option(name) for name in matrices)
    raise CellsError(f"{where} {what}; " + (f"choose one of: {there}." if there else "it has no matrix at all."))


def _option(name: str) -> str:
    return "--layer " + ("raw" if name == "raw/X" else name.removeprefix("layers/"))


def _fit(matrices: Mapping[str, Callable[[], Rows]], refused: str, logged: bool) -> dict[str, str]:
    """The other matrices that are whole and not scaled, with what their values are."""
    fit = {}
    for name, opened in matrices.items():
        if name == refused:
            continue
        try:
            rows = opened()
            values = recognise(sample(rows), logged).values
            rows.close()
        except CellsError:
            continue
        if values != "scaled":
            fit[name] = values
    return fit


def _spread(values: NDArray[np.float64], cells: NDArray[np.int64], n_cells: int) -> float:
    sums = np.bincount(cells, weights=values, minlength=n_cells)
    sums = sums[sums > 0]
    if len(sums) < 2:
        return float("inf")
    low, middle, high = np.percentile(sums, (5, 50, 95))
    return float((high - low) / middle)
