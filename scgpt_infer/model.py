"""`Model`: an open model, used many times.

In: a bundle and options. Out: embedded or annotated cells, in memory or in files, each by a `scgpt_infer.job.Job`.
"""

import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from scgpt_infer import models
from scgpt_infer.abilities import require
from scgpt_infer.annotating import Annotated, AnnotateOptions, Labels, open_labels
from scgpt_infer.answers import Answers, computed, stored
from scgpt_infer.facts import Facts, Ran
from scgpt_infer.job import Job, check_inplace, parts_bytes
from scgpt_infer.ledger.folder import parts_folder
from scgpt_infer.ledger.standing import Standing, standing
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import check_key, destination, disk
from scgpt_infer.preview import Ahead, Preview, look
from scgpt_infer.readers import CellSource, open_cells
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.run import Progress
from scgpt_infer.spans import taken
from scgpt_infer.summary import Summary
from scgpt_infer.tasks.embed import Embedding
from scgpt_infer.work import WorkOptions
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import OptionError
from scgpt_runtime.vocab import choose

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Model", "Say", "cells_of", "looked_at"]

Say = Callable[[str], None]
"""Told of the steps of an export, and of measurements."""

_log = logging.getLogger(__name__)
_DEFAULTS = EmbedOptions()
_BEST = AnnotateOptions()


class Model:
    """A model that is open and ready; open it once, use it many times. A context manager.

    Attributes
    ----------
    bundle
        What it was opened from.
    options
        The options that it was opened with.

    Examples
    --------
    >>> with Model.open("demo") as model:          # doctest: +SKIP
    ...     for cells in samples:
    ...         model.annotate(cells, inplace=True)
    """

    def __init__(
        self, bundle: Bundle, options: EmbedOptions, cache_dir: Path | None = None, say: Say = _log.info
    ) -> None:
        self.bundle = bundle
        self.options = options
        self._cache_dir, self._say = cache_dir, say
        self._vocabulary = bundle.vocabulary()
        self._engine: Engine | None = None
        self._is_open = True

    @classmethod
    def open(
        cls,
        model: models.AnyModel,
        options: EmbedOptions = _DEFAULTS,
        *,
        cache_dir: Path | None = None,
        say: Say | None = None,
        when_needed: bool = False,
    ) -> Self:
        """Open a model.

        Parameters
        ----------
        model
            A bundle (folder or zip), a checkpoint (folder or zip; exported once into the cache), ``demo``, or an open
        `scgpt_runtime.bundle.Bundle`.
        options
            How to run it, and how to read cells.
        cache_dir
            Where exported checkpoints, measurements and proofs are kept. None: the user's cache folder.
        say
            Told of each step when a checkpoint is exported, and when it is measured what runs fastest.
        when_needed
            Open what runs the model only when the first cell has to go through it: not, where vectors that are there
            already do.
        """
        say = say or _log.info
        bundle = models.resolve(model, cache_dir, precision=options.precision, say=say)
        opened = cls(bundle, options, models.lasting_cache(cache_dir), say)
        if not when_needed:
            opened._open_engine()
        return opened

    @property
    def engine(self) -> Engine:
        """What runs the model."""
        return self._open_engine()

    @property
    def vector_id(self) -> str:
        """Id that the vectors of two models must share to be comparable."""
        return self.engine.vector_id

    @property
    def key(self) -> str:
        """Name under ``obsm`` that embeddings get."""
        return self.options.key or self.bundle.manifest.key

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.bundle.manifest.dim

    def embed(self, cells: "AnnData | CellPaths", *, inplace: bool = False) -> "AnnData":
        """Embed cells in memory; see `scgpt_infer.embed`."""
        self._check_open()
        check_inplace(cells, inplace, self.options)
        with cells_of(cells, self.options) as source:
            check_key(cells, self.key)
            return self.job(source).into_memory(cells, inplace)[0]

    def embed_file(
        self,
        cells: CellPaths,
        output: Path | str | None = None,
        progress: Progress | None = None,
        *,
        reuse: bool = False,
    ) -> Summary:
        """Embed a file of cells into another file; see `scgpt_infer.embed_file`.

        Parameters
        ----------
        cells, output, progress
            See `scgpt_infer.embed_file`.
        reuse
            Take the vectors that lie with the cells already, where they are those that this model would make.
        """
        self._check_open()
        path = destination(cells, output, self.options)
        with cells_of(cells, self.options) as source:
            return self.job(source, reuse=reuse).into_file(path, progress)

    def annotate(
        self, cells: "AnnData | CellPaths", how: AnnotateOptions = _BEST, *, inplace: bool = False
    ) -> "AnnData":
        """Tell the types of cells in memory; see `scgpt_infer.annotate`."""
        self._check_open()
        check_inplace(cells, inplace, self.options)
        with cells_of(cells, self.options) as source, self.labels(how) as labels:
            check_key(cells, self.key)
            return labels.into_memory(self.labelling(source, labels), cells, inplace)

    def annotate_file(
        self,
        cells: CellPaths,
        output: Path | str | None = None,
        how: AnnotateOptions = _BEST,
        progress: Progress | None = None,
    ) -> Annotated:
        """Tell the types of a file of cells; see `scgpt_infer.annotate_file`."""
        self._check_open()
        path = destination(cells, output, self.options)
        with cells_of(cells, self.options) as source, self.labels(how) as labels:
            return labels.into_file(self.labelling(source, labels), path, progress)

    def preview(self, cells: CellPaths, output: Path | str | None = None) -> Preview:
        """Say what `embed_file` would do, and how long it would take; see `scgpt_infer.api.preview`."""
        self._check_open()
        path = looked_at(cells, output, self.options)
        with cells_of(cells, self.options) as source:
            return self.look(source, path, WorkOptions())

    def close(self) -> None:
        """Let go of the model; it cannot embed afterwards."""
        self._is_open = False
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._is_open:
            raise OptionError(f"The model {self.bundle.manifest.name} is closed, so it cannot embed. Open it again.")

    def _open_engine(self) -> Engine:
        if self._engine is None:
            self._check_open()
            require(self.bundle.manifest, "embed")
            options = EngineOptions(
                **{field.name: getattr(self.options, field.name) for field in fields(EngineOptions)}
            )
            self._engine = Engine.open(self.bundle, options, cache_dir=self._cache_dir, say=self._say)
        return self._engine

    # What the calls of `scgpt_infer.api` share with the methods above: they open the cells before the model.

    def job(self, source: CellSource, *, reuse: bool = False, engine: Ran | None = None) -> Job:
        """The job of embedding the cells of an open source; `engine` runs the model in place of this one's own."""
        answers = self._answers(source, reuse=reuse, engine=engine)
        return Job(source, answers, Embedding(answers.vectors), self.options)

    def labels(self, how: AnnotateOptions) -> Labels:
        """Where labels come from, opened."""
        require(self.bundle.manifest, "annotate")
        return open_labels(self.bundle, how, self._cache_dir)

    def labelling(self, source: CellSource, labels: Labels, engine: Callable[[], Ran] | None = None) -> Job:
        """The job of annotating the cells of an open source; `engine` gives what runs the model, if it has to run."""
        reuse = labels.takes_unit_vectors and not labels.how.recompute
        found = stored(source, self.bundle, self.options) if reuse else None
        answers = found or computed(self._facts(source, None if engine is None else engine()))
        return labels.job(source, answers, self.options)

    def look(self, source: CellSource, path: Path | None, work: WorkOptions | None = None, at_once: int = 1) -> Preview:
        """What embedding the cells of an open source would do.

        Parameters
        ----------
        source, path
            The cells, and where the result would go.
        work
            How it would be done. None: parts are not looked at, since they are of more than embeddings.
        at_once
            Workers that would each run the model as it runs here.
        """
        facts = self._facts(source)
        job = Job(source, computed(facts), Embedding(), self.options)
        there = Standing(sum(map(len, taken(job.n_cells, None if work is None else work.shard))))
        room = None
        if path is not None:
            target, parts = job.checked_target(path), 0
            if work is not None:
                plan = job.plan(target)
                there = standing(parts_folder(path), plan, work)
                parts = parts_bytes(plan, there.n_cells - there.n_kept)
            room = disk(target, parts)
        output = None if path is None else str(path)
        ahead = Ahead(there.n_cells, there.n_kept, there.held_by, work or WorkOptions(), at_once, output, room)
        return look(facts, ahead)

    def _answers(self, source: CellSource, *, reuse: bool, engine: Ran | None = None) -> Answers:
        found = stored(source, self.bundle, self.options) if reuse else None
        return found or computed(self._facts(source, engine))

    def _facts(self, source: CellSource, engine: Ran | None = None) -> Facts:
        if self.options.gene_col is not None:
            source.gene_column(self.options.gene_col)
        match = choose(
            source.gene_names, self._vocabulary, self.options.genes, self.options.gene_col, self.options.min_match
        )
        return Facts(self.bundle, engine or self.engine, source, match, self.options)


def cells_of(
    cells: "AnnData | CellPaths", options: EmbedOptions, room: ReadingRoom = ROOM, *, strict: bool = False
) -> CellSource:
    """Open cells as the options say, with pieces of the sizes that are given."""
    return open_cells(
        cells,
        layer=options.layer,
        threads=options.threads,
        modality=options.modality,
        cells_in=options.cells_in,
        where=options.where,
        organism=options.organism,
        room=room,
        strict=strict,
    )


def looked_at(cells: CellPaths, output: Path | str | None, options: EmbedOptions) -> Path | None:
    """The output of a preview, which may do without one."""
    return None if output is None and not options.in_place else destination(cells, output, options)
