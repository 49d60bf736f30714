"""An index of reference cells, made: vectors, labels and names in, a folder out.

Cells without a label or a vector are left out. Vectors may be a memory map of any size: they are taken in blocks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import __version__
from scgpt_infer.reference import approximate, folder
from scgpt_infer.reference.approximate import Approximate
from scgpt_infer.reference.exact import NORM_SLACK, nearest, reranked
from scgpt_infer.reference.manifest import FILE, IndexManifest, LeftOut, Origin, Recall
from scgpt_infer.writers.folder import published
from scgpt_infer.writers.sink import write_all
from scgpt_runtime.errors import CellsError, InternalError, OptionError

__all__ = ["EXACT_UP_TO", "KINDS", "Kind", "LabelledVectors", "build", "kind_for"]

Kind = Literal["auto", "exact", "hnsw", "ivfpq"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Say = Callable[[str], None]

EXACT_UP_TO = 200_000
"""Cells that are all looked at for each query: on two cores that takes 2 ms (``benchmarks/reference.py``)."""

RECALL_K = 10
RECALL_QUERIES = 1000

_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class LabelledVectors:
    """Reference cells.

    Attributes
    ----------
    vectors
        (n_cells, dim) float32 of unit length, NaN for a cell without one.
    labels
        (n_cells,) label of each, empty where it has none.
    names
        (n_cells,) name of each.
    label_column
        What the labels stood in.
    origin
        What made the vectors.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.str_]
    names: Sequence[str]
    label_column: str
    origin: Origin


def kind_for(kind: Kind, n_cells: int) -> Literal["exact", "hnsw", "ivfpq"]:
    """The kind of index for so many cells.

    Raises
    ------
    OptionError
        There is no such kind.
    MissingDependencyError
        It needs faiss, which is not installed.
    """
    if kind not in KINDS:
        raise OptionError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}.")
    if kind == "auto":
        kind = "exact" if n_cells <= EXACT_UP_TO else "ivfpq"
    if kind != "exact":
        approximate.check()
    return kind


def build(output: Path, cells: LabelledVectors, kind: Kind = "auto", say: Say = lambda line: None) -> IndexManifest:
    """Make an index.

    Parameters
    ----------
    output
        Folder to make; must not exist.
    cells
        What goes into it.
    kind
        ``exact``, ``hnsw`` or ``ivfpq``; ``auto``: by the number of cells.
    say
        Told of each step, for people.

    Returns
    -------
    IndexManifest
        The one that was written.

    Raises
    ------
    CellsError
        No cell has both a label and a vector.
    OutputError
        The folder cannot appear there.
    """
    kept, left_out = _kept(cells)
    chosen = kind_for(kind, len(kept))
    dim = cells.vectors.shape[1]
    options = None if chosen == "exact" else approximate.options_for(chosen, len(kept), dim)
    labels, codes = np.unique(cells.labels[kept], return_inverse=True)
    with published(output) as stage:
        say(f"writing {len(kept):,} vectors")
        _write_vectors(stage / "vectors.npy", cells.vectors, kept)
        np.save(stage / "labels.npy", codes.astype(np.int32), allow_pickle=False)
        folder.written_names(stage / "cells.txt", (cells.names[row] for row in kept.tolist()))
        recall = None
        if options is not None:
            vectors = np.load(stage / "vectors.npy", mmap_mode="r", allow_pickle=False)
            index = approximate.build(vectors, options, stage / "index.faiss", say)
            say(f"measuring recall of the {RECALL_K} nearest")
            recall = _recall(index, vectors)
        manifest = IndexManifest(
            kind=chosen,
            origin=cells.origin,
            dim=dim,
            n_cells=len(kept),
            label_column=cells.label_column,
            labels=tuple(labels.tolist()),
            counts=tuple(np.bincount(codes).tolist()),
            left_out=left_out,
            faiss=options,
            recall=recall,
            version=__version__,
        )
        manifest = replace(manifest, files=folder.recorded(stage))
        (stage / FILE).write_text(manifest.to_json(), encoding="utf-8", newline="\n")
    return manifest


def _kept(cells: LabelledVectors) -> tuple[NDArray[np.int64], LeftOut]:
    """Rows with a vector and a label, and how many lack one."""
    labelled = cells.labels != ""
    finite = np.concatenate([np.isfinite(block).all(axis=1) for block in _blocks(cells.vectors)])
    kept = np.flatnonzero(labelled & finite)
    left_out = LeftOut(int((~labelled).sum()), int((labelled & ~finite).sum()))
    if len(kept) == 0:
        raise CellsError(
            f"None of the {len(labelled):,} cells has both a label in {cells.label_column!r} and a vector: "
            f"{left_out.without_label:,} have no label, {left_out.without_vector:,} others no vector. "
            "Name another column (--label)."
        )
    return kept, left_out


def _blocks(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(vectors), _BLOCK):
        yield np.asarray(vectors[start : start + _BLOCK])


def _write_vectors(path: Path, vectors: NDArray[np.float32], kept: NDArray[np.int64]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(kept), vectors.shape[1])}
    with path.open("wb", buffering=0) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(kept), _BLOCK):
            block = np.ascontiguousarray(vectors[kept[start : start + _BLOCK]], dtype="<f4")
            _check_lengths(block)
            write_all(file, block.data)


def _check_lengths(block: NDArray[np.float32]) -> None:
    off = np.abs(np.linalg.norm(block.astype(np.float64), axis=1) - 1).max()
    if off > NORM_SLACK:
        raise InternalError(f"A reference vector is {off:.1g} off unit length.")


def _recall(index: Approximate, vectors: NDArray[np.float32]) -> Recall:
    """Cells of the reference, spread evenly over it, seek their neighbours, themselves left out."""
    n_cells = len(vectors)
    k = min(RECALL_K, n_cells - 1)
    own = np.unique(np.linspace(0, n_cells - 1, min(RECALL_QUERIES, n_cells)).astype(np.int64))
    queries = np.ascontiguousarray(vectors[own])
    right = _others(nearest(queries, vectors, k + 1).rows, own)[:, :k]
    found = _others(reranked(queries, vectors, index.candidates(queries, k + 1), k + 1).rows, own)[:, :k]
    hits = (right[:, :, None] == found[:, None, :]).any(axis=2)
    shares = hits.mean(axis=1) if k else np.ones(len(own))  # a single cell has no neighbours to miss
    return Recall(k, len(own), float(shares.mean()), float((shares < 0.5).mean()))


def _others(rows: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows without a query's own, which goes to the end where it was found."""
    order = np.argsort(rows == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)
