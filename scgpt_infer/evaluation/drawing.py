"""A confusion matrix as a PNG: colours by share of a row, counts in the fields. Needs matplotlib.

It draws on a figure of its own and leaves matplotlib's state alone. The same counts give the same bytes.
"""

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.evaluation.figures import Confusion
from scgpt_runtime.errors import MissingDependencyError

__all__ = ["confusion_png"]

_FIELD = 0.34  # inches, room for four digits
_LONGEST = 40
_DPI = 130


def confusion_png(confusion: Confusion, title: str = "") -> bytes:
    """Draw a confusion matrix.

    Parameters
    ----------
    confusion
        Counts; a row is a true label.
    title
        Above it.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            'Drawing needs matplotlib, which is not installed: pip install "scgpt-infer[annotate]".'
        ) from error
    counts = np.array(confusion.counts, np.int64)  # (n_true, n_told)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(dpi=_DPI)
    axes, bar = _placed(figure, *counts.shape)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, cax=bar).set_label("share of the true label's cells", fontsize=9)
    _label(axes, confusion, title)
    _count(axes, counts, shares)
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a sign that the font lacks is drawn as a box
        figure.savefig(png, format="png", bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    return png.getvalue()


def _placed(figure: Any, n_true: int, n_told: int) -> tuple[Any, Any]:
    """Axes with room for the fields, and those of the colour bar; names lie outside of the figure's own size."""
    field = min(max(_FIELD, 4 / n_told), 2 * _FIELD)
    wide, high, bar = field * n_told, field * n_true, min(max(field * n_true, 2.2), 3.0)
    figure.set_size_inches(wide, high)
    axes = figure.add_axes((0, 0, 1, 1))
    return axes, figure.add_axes((1 + 0.2 / wide, 1 - bar / high, 0.15 / wide, bar / high))


def _label(axes: Any, confusion: Confusion, title: str) -> None:
    for axis, names, turn in ((axes.xaxis, confusion.told, 90), (axes.yaxis, confusion.true, 0)):
        axis.set_ticks(range(len(names)), list(map(_short, names)), rotation=turn, fontsize=9)
        for label in axis.get_ticklabels():
            label.set_parse_math(False)  # a dollar sign in a name is a dollar sign
    axes.set_xlabel("told label")
    axes.set_ylabel("true label")
    axes.set_title(_short(title), loc="left", fontsize=11, pad=10, parse_math=False)
    for axis, names in ((axes.xaxis, confusion.told), (axes.yaxis, confusion.true)):
        axis.set_ticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.5)
    axes.tick_params(which="both", length=0)


def _count(axes: Any, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(counts > 0).tolist():
        dark = shares[row, column] > 0.55
        text = _brief(int(counts[row, column]))
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "#333333")


def _brief(count: int) -> str:
    """At most four signs."""
    for size, sign in ((1_000_000, "M"), (1000, "k")):
        if count >= 10 * size:
            return f"{count / size:.0f}{sign}"
    return str(count)


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
