"""The map's cells as JSON that lies in a page's script element: names and words as text, the rest as packed bytes.

In: `CellMap`. Out: text in which nothing can end the element. ``map.js`` reads it.
"""

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.report.colouring import GREY, Colouring, Numbers, tones
from scgpt_infer.report.findings import CellMap

__all__ = ["MOST_WORDS", "payload"]

MOST_WORDS = 100
"""Words that a legend lists; the rarer ones are one entry."""

NO_WORD = 255
NO_NUMBER = 0xFFFF
FULL = 0xFFFE
"""The highest place and number; a map is a few thousand pixels wide at most."""

_DANGEROUS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


def payload(cells: CellMap) -> str:
    """The cells as JSON, in a shuffled order, so that none of the colours lies on top of the others."""
    order = np.random.default_rng(0).permutation(len(cells.names))
    across, upwards = _places(cells.places[order])
    told = {
        "names": [cells.names[place] for place in order.tolist()],
        "x": _packed(across),
        "y": _packed(upwards),
        "colourings": [_colouring(one, order) for one in cells.colourings],
    }
    return json.dumps(told, ensure_ascii=True, allow_nan=False).translate(_DANGEROUS)


def _places(places: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both coordinates from 0 to `FULL` on one scale, in the middle of it."""
    low, high = places.min(axis=0), places.max(axis=0)
    span = float((high - low).max()) or 1.0
    scaled = ((places - (low + high) / 2) / span + 0.5) * FULL
    return scaled[:, 0], FULL - scaled[:, 1]  # a screen counts from the top


def _colouring(one: Colouring, order: NDArray[np.int64]) -> dict[str, Any]:
    told: dict[str, Any] = {"key": one.key, "name": one.name}
    if isinstance(one, Numbers):
        return told | {"low": one.low, "high": one.high, "values": _packed(_scaled(one)[order])}
    words, of_words, codes = list(one.words), tones(one.words), one.codes[order]
    if len(words) > MOST_WORDS:
        words = [*words[: MOST_WORDS - 1], f"{len(words) - MOST_WORDS + 1:,} others"]
        of_words = [*of_words[: MOST_WORDS - 1], GREY]
        codes = np.minimum(codes, MOST_WORDS - 1)
    codes = np.where(codes < 0, NO_WORD, codes).astype(np.uint8)
    counts = np.bincount(codes, minlength=NO_WORD + 1)
    return told | {
        "words": words,
        "counts": counts[: len(words)].tolist(),
        "without": int(counts[NO_WORD]),
        "tones": of_words,
        "codes": base64.b64encode(codes.tobytes()).decode(),
    }


def _scaled(one: Numbers) -> NDArray[np.float64]:
    scaled = (one.values.astype(np.float64) - one.low) / ((one.high - one.low) or 1.0) * FULL
    return np.where(np.isnan(scaled), NO_NUMBER, np.clip(scaled, 0, FULL))


def _packed(values: NDArray[np.float64]) -> str:
    """Whole numbers of 16 bits, the low byte first, as base64."""
    return base64.b64encode(np.rint(values).astype("<u2").tobytes()).decode()
