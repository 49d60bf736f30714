"""Everything that a report tells, gathered from an embedded file: `find` gives `Findings`.

In: an open `EmbeddedFile` and `ReportOptions`. Out: figures and the map's cells. It writes no HTML.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.report.colouring import Colouring, Numbers, Words, colouring, numbers
from scgpt_infer.report.findings import BINS, CellMap, Composition, Findings, LabelFigures
from scgpt_infer.report.layout import evenly, umap_places
from scgpt_infer.report.reading import EmbeddedFile
from scgpt_runtime.errors import CellsError, OptionError

__all__ = ["ReportOptions", "find"]

PREFIX = "scgpt_"
"""What the names of annotation columns begin with where the record does not tell."""

SAMPLES = ("sample", "sample_id", "donor", "donor_id", "patient", "patient_id", "batch", "batch_id")
"""Columns that a composition is looked for in, in this order, where none is named."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report shows.

    Attributes
    ----------
    by
        Columns of ``obs``: the shares of labels in each of their values. None: the first of `SAMPLES` there is.
    colour
        More columns of ``obs`` that the map can be coloured by.
    key
        The embedding under ``obsm``. None: the one that the file's record names.
    umap_key
        Places that ``obsm`` holds already; None computes them.
    max_cells
        Most cells on the map.

    Raises
    ------
    OptionError
        If the map shall have no cells.
    """

    by: tuple[str, ...] = ()
    colour: tuple[str, ...] = ()
    key: str | None = None
    umap_key: str | None = None
    max_cells: int = 100_000

    def __post_init__(self) -> None:
        if self.max_cells < 1:
            raise OptionError(f"max_cells is {self.max_cells}; expected at least 1.")


def find(file: EmbeddedFile, options: ReportOptions, say: Callable[[str], None] = lambda line: None) -> Findings:
    """Gather what there is to tell.

    Parameters
    ----------
    file
        Open.
    options
        What to show.
    say
        Told of steps that take long.

    Raises
    ------
    CellsError
        If the file lacks what was asked for, or has no cell with a vector.
    """
    key = file.key(options.key)
    has_vector = file.has_vector(key)
    if not has_vector.any():
        raise CellsError(f"None of the {file.n_cells:,} cells has a vector in obsm[{key!r}] of {file.path}.")
    colourings = _colourings(file, options)
    label, confidence = colourings.get("label"), colourings.get("confidence")
    label = label if isinstance(label, Words) else None
    confidence = confidence if isinstance(confidence, Numbers) else None
    by = [found for name in _samples(file, options) if isinstance(found := colourings[_key(name)], Words)]
    return Findings(
        file=file.path.name,
        key=key,
        n_cells=file.n_cells,
        n_embedded=int(has_vector.sum()),
        record=file.record,
        label=label,
        confidence=confidence,
        figures=() if label is None else _figures(label, confidence),
        compositions=() if label is None else tuple(_composition(label, samples) for samples in by),
        map=_map(file, options, has_vector, tuple(colourings.values()), say),
    )


def _prefix(file: EmbeddedFile) -> str:
    return str(file.record.get("annotation_prefix", PREFIX))


def _samples(file: EmbeddedFile, options: ReportOptions) -> tuple[str, ...]:
    """The columns that compositions are made of."""
    if options.by:
        return options.by
    plain = {name.lower(): name for name in file.columns}
    return next(((plain[name],) for name in SAMPLES if name in plain), ())


def _key(name: str) -> str:
    """Name of a column of the user's own; no label or confidence of ours has such a one."""
    return f"obs/{name}" if name in ("label", "confidence", "guess") else name


def _colourings(file: EmbeddedFile, options: ReportOptions) -> dict[str, Colouring]:
    prefix, found = _prefix(file), list[Colouring]()
    if f"{prefix}label" in file.columns:
        label = Words.of("label", "label", file.column(f"{prefix}label"))
        found.append(label)
        if f"{prefix}confidence" in file.columns:
            values = numbers(file.column(f"{prefix}confidence"))
            found += [] if values is None else [Numbers.of("confidence", "confidence", values, (0.0, 1.0))]
        if f"{prefix}label_1" in file.columns:
            guess = Words.of("guess", "best guess", file.column(f"{prefix}label_1"))
            # Where no cell is unknown, the best guess is the label itself.
            found += [guess] if guess.words != label.words or (guess.codes != label.codes).any() else []
    samples = [Words.of(_key(name), name, file.column(name)) for name in _samples(file, options)]
    more = [colouring(_key(name), name, file.column(name)) for name in options.colour]
    return {one.key: one for one in [*found, *more, *samples]}


def _figures(label: Words, confidence: Numbers | None) -> tuple[LabelFigures, ...]:
    figures = []
    for place, (name, cells) in enumerate(zip(label.words, label.counts, strict=True)):
        sure = np.zeros(0) if confidence is None else confidence.values[label.codes == place]
        sure = sure[~np.isnan(sure)]
        low, middle, high = np.quantile(sure, (0.25, 0.5, 0.75)).tolist() if sure.size else (0, 0, 0)
        histogram, _ = np.histogram(sure, bins=BINS, range=(0, 1))
        quartiles = (low, middle, high) if sure.size else None
        figures.append(LabelFigures(name, cells, quartiles, tuple(histogram.tolist())))
    return tuple(figures)


def _composition(label: Words, samples: Words) -> Composition:
    n_labels, n_samples = len(label.words), len(samples.words)
    codes = np.where(label.codes < 0, n_labels, label.codes)
    rows = np.where(samples.codes < 0, n_samples, samples.codes)
    cells = np.bincount(rows * (n_labels + 1) + codes, minlength=(n_samples + 1) * (n_labels + 1))
    cells = cells.reshape(n_samples + 1, n_labels + 1)
    names = (*samples.words, "")
    order = sorted(
        (place for place in range(n_samples + 1) if cells[place].any()), key=lambda place: _by_number(names[place])
    )
    return Composition(samples.name, tuple(names[place] for place in order), cells[order])


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts ``s2`` before ``s10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _map(
    file: EmbeddedFile,
    options: ReportOptions,
    has_vector: NDArray[np.bool_],
    colourings: tuple[Colouring, ...],
    say: Callable[[str], None],
) -> CellMap:
    if options.umap_key is not None:
        has_vector = has_vector & file.has_vector(options.umap_key)
    placed = np.flatnonzero(has_vector)
    rows = evenly(placed, options.max_cells)
    if options.umap_key is None:
        say(
            f"placing {len(rows):,} cells on the map; UMAP takes about a minute for 100,000 cells, and half a minute "
            "more the first time"
        )
        places, told = umap_places(file.vectors(file.key(options.key), rows))
    else:
        places, told = _stored_places(file, options.umap_key, rows), f"obsm[{options.umap_key!r}] of the file"
    finite = np.isfinite(places).all(axis=1)
    rows, places = rows[finite], places[finite]
    return CellMap(file.names(rows), places, tuple(_cut(one, rows) for one in colourings), told, len(placed))


def _stored_places(file: EmbeddedFile, key: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    places = file.vectors(key, rows)
    if places.shape[1] < 2:
        raise CellsError(f"obsm[{key!r}] of {file.path} has one column; a map needs two. Name another.")
    return places[:, :2]


def _cut(one: Colouring, rows: NDArray[np.int64]) -> Colouring:
    if isinstance(one, Words):
        return Words(one.key, one.name, one.words, one.codes[rows])
    return Numbers(one.key, one.name, one.values[rows], one.low, one.high)
