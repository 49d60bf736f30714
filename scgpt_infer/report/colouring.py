"""What the cells of a map can be coloured by: words (`Words`) or numbers (`Numbers`), one value a cell.

In: a column of ``obs`` as text. Out: which of the two it is, with what a legend needs. Colours have numbers here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.tasks.annotate import UNKNOWN

__all__ = ["GREY", "TONES", "Colouring", "Numbers", "Words", "colouring", "numbers", "tones"]

FEW = 50
"""A column of numbers with no more different values than this is one of words, as clusters are."""

TONES = 20
"""Colours of words; the style sheet says which. Further words begin again with the first."""

GREY = -1
"""The colour of what is no kind of its own."""


@dataclass(frozen=True, slots=True)
class Words:
    """One word for each cell.

    Attributes
    ----------
    key
        Name in the page's address.
    name
        What it is called on the page.
    words
        Different ones, the most frequent first, `UNKNOWN` behind them.
    codes
        (n_cells,) int32 places of words, -1 where the cell has none.
    """

    key: str
    name: str
    words: tuple[str, ...]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, key: str, name: str, texts: Sequence[str]) -> Self:
        """The words of a column; an empty text is none."""
        counts = Counter(texts)
        counts.pop("", None)
        words = tuple(sorted(counts, key=lambda word: (word == UNKNOWN, -counts[word], word)))
        places = {word: place for place, word in enumerate(words)}
        return cls(key, name, words, np.array([places.get(text, -1) for text in texts], np.int32))

    @property
    def counts(self) -> list[int]:
        """Cells of each word."""
        counts: list[int] = np.bincount(self.codes[self.codes >= 0], minlength=len(self.words)).tolist()
        return counts


@dataclass(frozen=True, slots=True)
class Numbers:
    """One number for each cell.

    Attributes
    ----------
    key, name
        As of `Words`.
    values
        (n_cells,) float32, NaN where the cell has none.
    low, high
        Ends of the scale of colours.
    """

    key: str
    name: str
    values: NDArray[np.float32]
    low: float
    high: float

    @classmethod
    def of(cls, key: str, name: str, values: NDArray[np.float32], ends: tuple[float, float] | None = None) -> Self:
        """Numbers on a scale from the lowest to the highest finite one, or between `ends`."""
        finite = values[np.isfinite(values)]
        low, high = ends or ((float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0))
        return cls(key, name, np.where(np.isfinite(values), values, np.nan).astype(np.float32), low, high)


Colouring = Words | Numbers


def colouring(key: str, name: str, texts: Sequence[str]) -> Colouring:
    """What a column is: numbers where all its values are and more than `FEW` differ, else words."""
    values = numbers(texts)
    if values is not None and len(np.unique(values[~np.isnan(values)])) > FEW:
        return Numbers.of(key, name, values)
    return Words.of(key, name, texts)


def tones(words: Sequence[str]) -> list[int]:
    """The colour of each word, by its place; `UNKNOWN` is grey."""
    found, free = [], 0
    for word in words:
        found.append(GREY if word == UNKNOWN else free % TONES)
        free += word != UNKNOWN
    return found


def numbers(texts: Sequence[str]) -> NDArray[np.float32] | None:
    """(n_cells,) float32 with NaN for an empty text; None where a text is no number."""
    try:
        return np.array([float(text or "nan") for text in texts], np.float32)
    except ValueError:
        return None
