"""The calls of scgpt-infer: `embed` and `embed_file` for one job, `Model` for many, `preview` for a look before.

Each opens what it needs (model, cells, output), hands it to `scgpt_infer.run`, and closes it again.
"""

import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from scgpt_infer import models
from scgpt_infer.facts import Facts
from scgpt_infer.options import MIN_MATCH, EmbedOptions, Genes, Precision, Provider, Sample, Ties
from scgpt_infer.output import check_disk, check_key, destination, disk, target_of
from scgpt_infer.preview import Preview, look
from scgpt_infer.readers import CellSource, open_cells
from scgpt_infer.run import Progress, run
from scgpt_infer.summary import Summary
from scgpt_infer.tasks import TASKS
from scgpt_infer.writers import Target, writer_of
from scgpt_infer.writers.h5ad import RECORD
from scgpt_infer.writers.memory import MemorySink
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import DeviceError, OptionError
from scgpt_runtime.vocab import choose

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Model", "embed", "embed_file", "preview"]

Say = Callable[[str], None]

_log = logging.getLogger(__name__)
_DEFAULTS = EmbedOptions()


class Model:
    """A model that is open and ready to embed; open it once, embed many times. A context manager.

    Attributes
    ----------
    bundle
        What it was opened from.
    engine
        What runs it.
    options
        The options that it was opened with.

    Examples
    --------
    >>> with Model.open("demo") as model:          # doctest: +SKIP
    ...     for cells in samples:
    ...         model.embed(cells, inplace=True)
    """

    def __init__(self, bundle: Bundle, engine: Engine, options: EmbedOptions) -> None:
        self.bundle = bundle
        self.engine = engine
        self.options = options
        self._vocabulary = bundle.vocabulary()
        self._is_open = True

    @classmethod
    def open(
        cls,
        model: str | Path,
        options: EmbedOptions = _DEFAULTS,
        *,
        cache_dir: Path | None = None,
        say: Say | None = None,
    ) -> Self:
        """Open a model.

        Parameters
        ----------
        model
            A bundle (folder or zip), a checkpoint (folder or zip; exported once into the cache), or ``demo``.
        options
            How to run it, and how to read cells.
        cache_dir
            Where exported checkpoints, measurements and proofs are kept. None: the user's cache folder.
        say
            Told of each step when a checkpoint is exported, and when it is measured what runs fastest.
        """
        say = say or _log.info
        bundle = models.resolve(model, cache_dir, precision=options.precision, say=say)
        lasting = models.lasting_cache(cache_dir)
        engine = Engine.open(bundle, _engine_options(options), cache_dir=lasting, say=say)
        return cls(bundle, engine, options)

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

    def embed(self, cells: "AnnData | Path | str", *, inplace: bool = False) -> "AnnData":
        """Embed cells in memory; see `scgpt_infer.embed`."""
        self._check_open()
        _check_inplace(cells, inplace, self.options)
        with open_cells(cells, layer=self.options.layer, threads=self.options.threads) as source:
            check_key(cells, self.key)
            sink = self._into_memory(cells, source, inplace)
        return _attached(cells, sink, self.key, self.options, inplace)

    def embed_file(
        self, cells: Path | str, output: Path | str | None = None, progress: Progress | None = None
    ) -> Summary:
        """Embed a file of cells into another file; see `scgpt_infer.embed_file`."""
        self._check_open()
        path = destination(Path(cells), output, self.options)
        with open_cells(cells, layer=self.options.layer, threads=self.options.threads) as source:
            return self._into_file(source, path, progress)

    def preview(self, cells: Path | str, output: Path | str | None = None) -> Preview:
        """Say what `embed_file` would do, and how long it would take; see `scgpt_infer.api.preview`."""
        self._check_open()
        path = _looked_at(cells, output, self.options)
        with open_cells(cells, layer=self.options.layer, threads=self.options.threads) as source:
            return self._look(source, path)

    def close(self) -> None:
        """Let go of the model; it cannot embed afterwards."""
        self._is_open = False
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._is_open:
            raise OptionError(f"The model {self.bundle.manifest.name} is closed, so it cannot embed. Open it again.")

    def _into_memory(self, cells: "AnnData | Path | str", source: CellSource, inplace: bool) -> MemorySink:
        facts = self._facts(source)
        sink = MemorySink(np.full((self._n_cells(source), self.dim), np.nan, np.float32), {})
        columns, limit = facts.match.columns, self.options.limit
        output = f'obsm["{self.key}"]' if inplace else "The attribute `finished` of this error, an AnnData,"
        try:
            tally = run(source, self.engine, columns, TASKS["embed"], sink, facts.record, limit=limit, output=output)
        except DeviceError as error:
            if sink.record:  # rows were done before
                error.finished = _attached(cells, sink, self.key, self.options, inplace)
            raise
        if tally.bad:
            first = tally.bad[0]
            _log.warning(
                "%d of %d cells have no embedding (NaN); the first is %s: %s",
                len(tally.bad),
                tally.n_cells,
                first.name,
                first.reason,
            )
        return sink

    def _target(self, source: CellSource, path: Path, n_cells: int) -> Target:
        target = target_of(path, source, n_cells, self.dim, self.key, self.options)
        if target.source is not None and path.suffix.lower() == ".h5ad":
            check_key(target.source, self.key)
        return target

    def _into_file(self, source: CellSource, path: Path, progress: Progress | None) -> Summary:
        facts = self._facts(source)
        target = self._target(source, path, self._n_cells(source))
        check_disk(target)
        with writer_of(path).open(target) as sink:
            tally = run(
                source,
                self.engine,
                facts.match.columns,
                TASKS["embed"],
                sink,
                facts.record,
                limit=self.options.limit,
                progress=progress,
                output=str(path),
            )
        return facts.summary(tally, path)

    def _look(self, source: CellSource, path: Path | None) -> Preview:
        facts = self._facts(source)
        n_cells = self._n_cells(source)
        if path is None:
            return look(facts, n_cells, None, None)
        target = self._target(source, path, n_cells)
        return look(facts, n_cells, str(path), disk(target))

    def _facts(self, source: CellSource) -> Facts:
        if self.options.gene_col is not None:
            source.gene_column(self.options.gene_col)
        match = choose(
            source.gene_names, self._vocabulary, self.options.genes, self.options.gene_col, self.options.min_match
        )
        return Facts(self.bundle, self.engine, source, match, self.options)

    def _n_cells(self, source: CellSource) -> int:
        return source.n_cells if self.options.limit is None else min(self.options.limit, source.n_cells)


def embed(
    cells: "AnnData | Path | str",
    *,
    model: str | Path,
    inplace: bool = False,
    layer: str | None = None,
    gene_col: str | None = None,
    genes: Genes = "exact",
    min_match: float = MIN_MATCH,
    provider: Provider = "auto",
    precision: Precision = "auto",
    device: str = "auto",
    threads: int | None = None,
    instances: int | None = None,
    batch_tokens: int | None = None,
    max_length: int | None = None,
    seed: int | None = None,
    ties: Ties | None = None,
    sample: Sample | None = None,
    limit: int | None = None,
    key: str | None = None,
) -> "AnnData":
    """Embed cells.

    Parameters
    ----------
    cells
        An AnnData object, or the path of an ``.h5ad`` file, which is read into memory whole.
    model
        A bundle (folder or zip), a checkpoint (folder or zip; exported once into the cache), or ``demo``.
    inplace
        Add the embedding to the object that was given, and return that; else a copy is returned.
    layer, gene_col, genes, min_match, provider, precision, device, threads, instances, batch_tokens
        See `EmbedOptions`.
    max_length, seed, ties, sample, limit, key
        See `EmbedOptions`.

    Returns
    -------
    AnnData
        With ``obsm["X_scGPT"]`` (``X_scGPT_demo`` for the demo model): (n_cells, dim) float32, of unit length, NaN for
        a cell that cannot be embedded; and with ``uns["scgpt_infer"]``, which says how it was made.

    Raises
    ------
    ScgptInferError
        See `scgpt_infer.errors`. The message says what was found, what was expected and what to do.
    """
    options = EmbedOptions(
        layer=layer,
        gene_col=gene_col,
        genes=genes,
        min_match=min_match,
        provider=provider,
        precision=precision,
        device=device,
        threads=threads,
        instances=instances,
        batch_tokens=batch_tokens,
        max_length=max_length,
        seed=seed,
        ties=ties,
        sample=sample,
        limit=limit,
        key=key,
    )
    _check_inplace(cells, inplace, options)
    with open_cells(cells, layer=layer, threads=threads) as source, Model.open(model, options) as opened:
        check_key(cells, opened.key)
        sink = opened._into_memory(cells, source, inplace)
    return _attached(cells, sink, opened.key, options, inplace)


def embed_file(
    cells: Path | str,
    output: Path | str | None,
    model: str | Path,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Summary:
    """Embed a file of cells into another file, of any size: nothing holds all cells at once.

    Parameters
    ----------
    cells
        An ``.h5ad`` file.
    output
        A new ``.h5ad``, ``.npy``, ``.parquet`` or ``.csv`` file; None with `EmbedOptions.in_place`.
    model
        See `embed`.
    options
        Everything else.
    progress
        Told the cells done and the cells in all.
    cache_dir, say
        See `Model.open`.

    Raises
    ------
    ScgptInferError
        See `scgpt_infer.errors`. However the job ends, no partial file has the final name.
    """
    path = destination(Path(cells), output, options)
    with (
        open_cells(cells, layer=options.layer, threads=options.threads) as source,
        Model.open(model, options, cache_dir=cache_dir, say=say) as opened,
    ):
        return opened._into_file(source, path, progress)


def preview(
    cells: Path | str,
    output: Path | str | None,
    model: str | Path,
    options: EmbedOptions = _DEFAULTS,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Preview:
    """Say what `embed_file` would do, and how long it would take; a few cells are timed, nothing is written.

    Parameters
    ----------
    cells, output, model, options, cache_dir, say
        See `embed_file`. Without an output, room on the disk is not looked at.
    """
    path = _looked_at(cells, output, options)
    with (
        open_cells(cells, layer=options.layer, threads=options.threads) as source,
        Model.open(model, options, cache_dir=cache_dir, say=say) as opened,
    ):
        return opened._look(source, path)


def _check_inplace(cells: "AnnData | Path | str", inplace: bool, options: EmbedOptions) -> None:
    if inplace and isinstance(cells, (str, Path)):
        raise OptionError("inplace changes an AnnData object, and cells are a path. Use embed_file with in_place.")
    if inplace and getattr(cells, "is_view", False):
        raise OptionError(
            "inplace adds to the object itself, and this one is a view of another. Pass a copy: x.copy()."
        )
    if inplace and options.limit is not None:
        raise OptionError("limit and inplace do not go together: the object keeps all of its cells.")


def _looked_at(cells: Path | str, output: Path | str | None, options: EmbedOptions) -> Path | None:
    """The output of a preview, which may do without one."""
    return None if output is None and not options.in_place else destination(Path(cells), output, options)


def _attached(
    cells: "AnnData | Path | str", sink: MemorySink, key: str, options: EmbedOptions, inplace: bool
) -> "AnnData":
    """The cells with their embedding: the caller's object, or a copy that shares nothing with it."""
    from anndata import read_h5ad

    if isinstance(cells, (str, Path)):
        found = read_h5ad(cells) if options.limit is None else read_h5ad(cells)[: options.limit].copy()
    elif inplace:
        found = cells
    else:
        found = (cells if options.limit is None else cells[: options.limit]).to_memory(copy=True)
    found.obsm[key] = sink.vectors
    found.uns[RECORD] = dict(sink.record)
    return found


def _engine_options(options: EmbedOptions) -> EngineOptions:
    """Those of the options that an engine has too, by the same names."""
    return EngineOptions(**{field.name: getattr(options, field.name) for field in fields(EngineOptions)})
