"""Which matrix is read, and what its values are.

Matrices come in by name, the chosen one goes out with the reason. Nothing here reads a file: what
is known is a sample of rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

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
    n_negative = 0
    whole = True
    top = 0.0
    sums, unlogged_sums = [], []
    # Row by row: a sample of a dense matrix is large, and must not be held in float64 beside itself.
    for start, stop in pairwise(block.indptr.tolist()):
        row = block.data[start:stop]
        n_negative += bool(np.any(row < 0))
        row = row[np.isfinite(row)].astype(np.float64)
        whole = whole and bool(np.all(row == np.rint(row)))
        top = max(top, float(row.max(initial=0.0)))
        sums.append(float(row.sum()))
        unlogged_sums.append(float(np.expm1(np.minimum(row, LOG_CEILING)).sum()))
    if 2 * n_negative > block.n_cells:
        values = "scaled"
    elif whole:
        values = "integer"
    else:
        values = "log1p" if _is_logged(top, _spread(sums), _spread(unlogged_sums), logged) else "normalised"
    return Look(values, block.n_cells, n_negative)


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
    look = _look(rows, logged)
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
        meant = {"X": ("X", "layers/X"), "raw": ("raw/X", "layers/raw")}.get(layer, (f"layers/{layer}", layer))
        for name in meant:
            if name in matrices:
                return name
        what = f"has no {layer}" if layer in ("X", "raw") else f"has no layer {layer!r}"
    there = ", ".join(_option(name) for name in matrices)
    raise CellsError(f"{where} {what}; " + (f"choose one of: {there}." if there else "it has no matrix at all."))


def _option(name: str) -> str:
    short = name.removeprefix("layers/")
    return "--layer " + ("raw" if name == "raw/X" else name if short in ("X", "raw") else short)


def _fit(matrices: Mapping[str, Callable[[], Rows]], refused: str, logged: bool) -> dict[str, str]:
    """The other matrices that are whole and not scaled, with what their values are."""
    fit = {}
    for name, opened in matrices.items():
        if name == refused:
            continue
        try:
            rows = opened()
            values = _look(rows, logged).values
            rows.close()
        except CellsError:
            continue
        if values != "scaled":
            fit[name] = values
    return fit


def _look(rows: Rows, logged: bool) -> Look:
    try:
        return recognise(sample(rows), logged)
    except BaseException:
        rows.close()
        raise


def _is_logged(top: float, spread: float, unlogged_spread: float, said: bool) -> bool:
    if top >= LOG_CEILING or (spread <= SAME_SUM and spread < unlogged_spread):
        return False
    return said or unlogged_spread <= SAME_SUM


def _spread(sums: list[float]) -> float:
    """Distance of the 5th and 95th percentile of the positive sums, as a part of their median."""
    positive = [total for total in sums if total > 0]
    if len(positive) < 2:
        return float("inf")
    low, middle, high = np.percentile(positive, (5, 50, 95))
    return float((high - low) / middle)
