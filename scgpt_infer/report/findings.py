"""What a report tells, as plain records: `Findings` and its parts.

It knows neither files nor HTML.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.report.colouring import Colouring, Numbers, Words

__all__ = ["BINS", "CellMap", "Composition", "Findings", "LabelFigures"]

BINS = 20
"""Of a label's confidences, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """How sure the labels of one kind are.

    Attributes
    ----------
    name
        The label.
    cells
        How many have it.
    quartiles
        Of their confidence: a quarter of the cells, half of them and three quarters lie below. None without any.
    histogram
        Cells by confidence, in `BINS` bins.
    """

    name: str
    cells: int
    quartiles: tuple[float, float, float] | None
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Composition:
    """Labels within samples.

    Attributes
    ----------
    column
        Column of ``obs`` with the samples.
    groups
        Its values, by name; the empty one is of cells that have none.
    cells
        (n_groups, n_labels + 1) cells by label; the last column counts those without.
    """

    column: str
    groups: tuple[str, ...]
    cells: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CellMap:
    """The cells that are drawn.

    Attributes
    ----------
    names
        Of the cells.
    places
        (n_cells, 2) float32.
    colourings
        What they can be coloured by; values of these cells.
    told
        How the places were made.
    n_placed
        Cells that have a place, of which these are drawn.
    """

    names: list[str]
    places: NDArray[np.float32]
    colourings: tuple[Colouring, ...]
    told: str
    n_placed: int


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a report tells.

    Attributes
    ----------
    file, key
        The file's name, and the embedding's under ``obsm``.
    n_cells, n_embedded
        Cells of the file, and those with a vector.
    record
        ``uns["scgpt_infer"]``.
    label, confidence
        Of every cell; None where the file has no labels, or no confidence of them.
    figures
        Of each label, in the order of the labels.
    compositions
        Of each column that was asked for.
    map
        The drawn cells.
    """

    file: str
    key: str
    n_cells: int
    n_embedded: int
    record: Mapping[str, str | int | float]
    label: Words | None
    confidence: Numbers | None
    figures: tuple[LabelFigures, ...]
    compositions: tuple[Composition, ...]
    map: CellMap
