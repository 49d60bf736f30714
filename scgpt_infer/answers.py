"""Where the answers of a job come from: an open engine, or vectors that already lie with the cells.

In: a source of cells, a bundle, options. Out: `Answers`, all that a run asks of either. It opens no model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.facts import Facts
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import Stored
from scgpt_infer.run import Answering, Blocks, Tally
from scgpt_infer.summary import Summary
from scgpt_infer.tasks.embed import as_stored, embedding
from scgpt_infer.writers.sink import Part, Record
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock, CellFault, Result
from scgpt_runtime.manifest import STATIC, vector_id

__all__ = ["Answers", "Told", "computed", "stored"]

_SETTINGS = ("max_length", "seed", "ties", "sample")


class Told(Protocol):
    """What a finished job says of where its vectors come from."""

    @property
    def key(self) -> str:
        """Name of the embedding under ``obsm``."""
        ...

    def record(self, n_cells: int, n_bad: int) -> Record:
        """Flat facts that go with the result."""
        ...

    def summary(self, tally: Tally, output: Path | None) -> Summary:
        """Everything of a finished run."""
        ...


@dataclass(frozen=True, slots=True)
class Answers:
    """Cell vectors for a job.

    Attributes
    ----------
    engine
        What gives them, block by block.
    columns
        (n_genes,) token id of each column of the source, -1 for an unknown one.
    facts
        What is told of them.
    vectors
        Makes rows of unit vectors of what the engine gives.
    dim
        Their width.
    blocks
        Gives the cells of spans of rows to the engine; None: the source does.
    """

    engine: Answering
    columns: NDArray[np.int64]
    facts: Told
    vectors: Callable[[Result], Part]
    dim: int
    blocks: Blocks | None = None


def computed(facts: Facts) -> Answers:
    """The answers of an open engine."""
    return Answers(facts.engine, facts.match.columns, facts, embedding, facts.bundle.manifest.dim)


def stored(source: CellSource, bundle: Bundle, options: EmbedOptions) -> Answers | None:
    """Vectors that lie with the cells already, if they are those that the bundle would make.

    Parameters
    ----------
    source
        Open cells.
    bundle, options
        What would compute otherwise: the id of the stored vectors must be one that they can give, and the counts and
        gene names that the vectors were made of must not be others than those asked for.

    Returns
    -------
    Answers
        None when there are no such vectors, or the run that made them did not finish.
    """
    found = source.stored(options.key or bundle.manifest.key)
    if found is None or found.dim != bundle.manifest.dim or not _fits(found.record, source, options):
        return None
    if found.record.get("vector_id") not in _possible_ids(bundle, options):
        return None
    # Another bundle may have made them, of which this one's classifier was taught.
    told = _StoredFacts({**found.record, "model": bundle.manifest.name})
    return Answers(_StoredVectors(found), np.empty(0, np.int64), told, as_stored, found.dim, _unread)


def _fits(record: Mapping[str, Any], source: CellSource, options: EmbedOptions) -> bool:
    """Whether the vectors are whole, and made of what is asked for now. Other cells may have lain with them since."""
    if "incomplete" in record or not {*_RECORDED, "min_match", "n_cells"} <= {*record}:
        return False
    # Of fewer cells than the run had the others went; of more, some came, whose vectors the record says nothing of.
    if source.n_cells > record["n_cells"] or max(record["min_match"], record["match_fraction"]) < options.min_match:
        return False
    asked = {name: getattr(options, name) for name in ("gene_col", "genes", "modality")} | {"counts": source.counts}
    return all(record.get(name) == value for name, value in asked.items() if value is not None)


def _possible_ids(bundle: Bundle, options: EmbedOptions) -> set[str]:
    """Ids of the vectors that a bundle can make with these options, whatever runs it."""
    manifest = bundle.manifest
    changes: dict[str, Any] = {name: getattr(options, name) for name in _SETTINGS}
    settings = replace(manifest.tokenizer, **{name: value for name, value in changes.items() if value is not None})
    asked = (options.precision,) if options.precision != "auto" else (*manifest.precisions, "bf16")
    classes = {*asked, *([STATIC] if manifest.calibration and "int8" in asked else [])}
    vocabulary = bundle.sha256("vocab.json")
    return {
        vector_id(
            manifest.weights, vocabulary, manifest.pooling, settings, options.genes, manifest.arithmetic(arithmetic)
        )
        for arithmetic in classes
    }


def _unread(spans: Iterable[range]) -> Iterator[CellBlock]:
    """Blocks of so many cells, whose values nobody asks for."""
    for span in spans:
        nothing = np.empty(0, np.int32), np.empty(0, np.float32)
        yield CellBlock(np.zeros(len(span) + 1, np.int64), *nothing, span.start)


class _StoredVectors:
    """Stands in for an engine: gives the vectors of a file instead of computing them."""

    def __init__(self, found: Stored) -> None:
        self._found = found
        self.timings: dict[str, float] = {}

    def run(
        self, blocks: Iterable[CellBlock], columns: NDArray[np.int64], tick: Callable[[int], None]
    ) -> Iterator[Result]:
        """The rows of the file that the blocks have, whose values do not matter."""
        for block in blocks:
            start = block.first_row
            vectors = self._found.read(start, start + block.n_cells)
            finite = np.isfinite(vectors).all(axis=1)
            faults = np.where(finite, CellFault.NONE, CellFault.NO_VECTOR).astype(np.uint8)
            tick(len(vectors))
            yield Result({"cell": vectors}, faults, np.zeros(len(vectors), np.int32), start)


_RECORDED = (
    "model",
    "vector_id",
    "key",
    "dim",
    "n_genes",
    "n_matched",
    "match_fraction",
    "gene_col",
    "genes",
    "counts",
    "values",
    "provider",
    "precision",
    "dialect",
    "threads",
    "instances",
    "batch_tokens",
    "max_length",
    "seed",
    "ties",
    "sample",
    "version",
)
"""Fields of a `Summary` that the record of the vectors tells."""


@dataclass(frozen=True, slots=True)
class _StoredFacts:
    """What the record says of the vectors that were stored with it."""

    found: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Name of the embedding under ``obsm``."""
        return str(self.found["key"])

    def record(self, n_cells: int, n_bad: int) -> Record:
        """The record of the vectors: they are what they were, of the cells that are there."""
        told = {
            name: value for name, value in self.found.items() if not name.startswith(("annotation_", "obs_columns"))
        }
        return {**told, "n_cells": n_cells, "n_without_embedding": n_bad}

    def summary(self, tally: Tally, output: Path | None) -> Summary:
        """The run that made the vectors, with what this one did."""
        told = {name: self.found[name] for name in _RECORDED}
        known = f"{told['n_matched']:,} of {told['n_genes']:,} genes are known ({told['match_fraction']:.1%})"
        return Summary(
            **told,
            output=None if output is None else str(output),
            n_cells=tally.n_cells,
            n_embedded=tally.n_cells - tally.bad.count,
            n_kept=tally.n_kept,
            n_bad=tally.bad.count,
            reasons=tally.bad.by_reason(),
            bad=tuple(tally.bad.first),
            match_report=f"{known}, as recorded with the vectors",
            counts_why="as recorded with the vectors",
            devices=(),
            why="vectors that lay with the cells, made by the same model with the same settings",
            longest=tally.longest,
            seconds=tally.seconds,
            wall_seconds=tally.wall_seconds,
            cells_per_second=(tally.n_cells - tally.n_kept) / max(tally.wall_seconds, 1e-9),
            peak_bytes=tally.peak_bytes,
            hashes={
                "weights": str(self.found.get("weights_sha256", "")),
                "vocabulary": str(self.found.get("vocabulary_sha256", "")),
            },
        )
