"""Which matrix of a source is read.

Matrices come in by name, the chosen one goes out with the reason. Of their contents it knows a
sample of rows, and of files nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scgpt_infer.readers.matrix import Rows, samples
from scgpt_infer.readers.values import Look, recognise
from scgpt_runtime.errors import CellsError

__all__ = ["Counts", "choose"]


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
        What its values are, see `scgpt_infer.readers.values.recognise`.
    why
        Why it is this one, in words.
    """

    name: str
    rows: Rows
    values: str
    why: str


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
        return recognise(samples(rows), logged)
    except BaseException:
        rows.close()
        raise
