"""The calls of scgpt-infer: one for each job, and `preview` for a look before. `Model` is for many jobs.

Each opens what it needs (cells, then model, then output), makes a `scgpt_infer.job.Job` of it, and closes it again.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from scgpt_infer.annotating import Annotated, AnnotateOptions
from scgpt_infer.job import check_inplace
from scgpt_infer.looking import look_at
from scgpt_infer.memory.opening import minded, open_within
from scgpt_infer.model import Model, Say, cells_of, looked_at
from scgpt_infer.options import MIN_MATCH, CellsIn, EmbedOptions, Genes, Precision, Provider, Sample, Ties
from scgpt_infer.output import check_key, destination
from scgpt_infer.preview import Preview
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.run import Progress
from scgpt_infer.scale.errand import EmbedErrand
from scgpt_infer.scale.opening import crew_of, shared
from scgpt_infer.summary import Summary
from scgpt_infer.work import WorkOptions

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Model", "annotate", "annotate_file", "embed", "embed_file", "preview"]

_ALL = WorkOptions()
_DEFAULTS = EmbedOptions()
_BEST = AnnotateOptions()


def embed(
    cells: "AnnData | CellPaths",
    *,
    model: str | Path,
    inplace: bool = False,
    layer: str | None = None,
    modality: str | None = None,
    cells_in: CellsIn | None = None,
    where: str | None = None,
    organism: str | None = None,
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
        An AnnData object, or the path of a file of cells (docs/formats.md), which is read into memory whole. Several
        files are one data set: a list, a folder, or a pattern such as ``"cells/*.h5ad"``.
    model
        A bundle (folder or zip), a checkpoint (folder or zip; exported once into the cache), or ``demo``.
    inplace
        Add the embedding to the object that was given, and return that; else a copy is returned.
    layer, modality, cells_in, where, organism, gene_col, genes, min_match, provider, precision, device, threads
        See `EmbedOptions`.
    instances, batch_tokens, max_length, seed, ties, sample, limit, key
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
        modality=modality,
        cells_in=cells_in,
        where=where,
        organism=organism,
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
    check_inplace(cells, inplace, options)
    with cells_of(cells, options) as source, Model.open(model, options) as opened:
        check_key(cells, opened.key)
        return opened.job(source).into_memory(cells, inplace)[0]


def embed_file(
    cells: CellPaths,
    output: Path | str | None,
    model: str | Path,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    work: WorkOptions = _ALL,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Summary:
    """Embed a file of cells into another file, of any size: nothing holds all cells at once, and no work is lost.

    What is done lies beside the output, in a folder ``OUTPUT.parts``, until the output is whole. The same call goes on
    from there, whatever ended the one before it.

    Parameters
    ----------
    cells
        A file of cells, of any format that docs/formats.md lists; or several as one data set, see `embed`. A file of
        several that cannot be read is listed in the summary, and its cells are missing.
    output
        A new ``.h5ad``, ``.npy``, ``.parquet`` or ``.csv`` file; None with `EmbedOptions.in_place`.
    model
        See `embed`.
    options
        Everything else.
    progress
        Told the cells done and the cells in all.
    work
        How the work is done: all of it or a share, anew or from what is kept, by this process or by several.
    cache_dir, say
        See `Model.open`.

    Raises
    ------
    ScgptInferError
        See `scgpt_infer.errors`. However the job ends, no partial file has the final name.
    """
    path = destination(cells, output, options)
    several = shared(work, options)
    with (
        open_within(cells, model, options, work, cache_dir=cache_dir, say=say, by_others=several) as (source, known),
        crew_of(EmbedErrand.of(cells, source, model, known, cache_dir, strict=work.strict), work, say)
        if several
        else nullcontext() as crew,
        minded(work.memory, progress) as minding,
    ):
        job = known.job(source, engine=None if crew is None else crew.engine())
        return job.into_file(path, minding, work=work, filler=crew, say=say)


def annotate(
    cells: "AnnData | CellPaths",
    *,
    model: str | Path,
    how: AnnotateOptions = _BEST,
    options: EmbedOptions = _DEFAULTS,
    inplace: bool = False,
) -> "AnnData":
    """Tell the types of cells, and embed them in the same pass.

    Parameters
    ----------
    cells, model, inplace
        See `embed`.
    how
        Where labels come from (the model's classifier, or a reference), how many candidates are told of each cell, and
        when a cell is called unknown.
    options
        How to run the model, and how to read cells.

    Returns
    -------
    AnnData
        With what `embed` adds, and in ``obs`` the columns ``scgpt_label`` (categorical), ``scgpt_confidence``
        (float32), and the candidates ``scgpt_label_1``, ``scgpt_confidence_1``, and so on. A cell without an embedding
        has none.

    Raises
    ------
    ScgptInferError
        See `scgpt_infer.errors`; `BundleError` when the model has no classifier and no reference was named.
    """
    check_inplace(cells, inplace, options)
    options = how.fitting(options)
    with (
        cells_of(cells, options) as source,
        Model.open(model, options, when_needed=True) as opened,
        opened.labels(how) as labels,
    ):
        check_key(cells, opened.key)
        return labels.into_memory(opened.labelling(source, labels), cells, inplace)


def annotate_file(
    cells: CellPaths,
    output: Path | str | None,
    model: str | Path,
    options: EmbedOptions = _DEFAULTS,
    how: AnnotateOptions = _BEST,
    progress: Progress | None = None,
    *,
    work: WorkOptions = _ALL,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Annotated:
    """Tell the types of a file of cells, of any size, into another file.

    Parameters
    ----------
    cells, model, options, progress, work, cache_dir, say
        See `embed_file`.
    output
        A new ``.h5ad``, ``.json``, ``.jsonl``, ``.csv`` or ``.parquet`` file; None with `EmbedOptions.in_place`.
    how
        See `annotate`.
    """
    how.check_work(work)
    path = destination(cells, output, options)
    options = how.fitting(options)
    several = shared(work, options)
    with (
        cells_of(cells, options, strict=work.strict) as source,
        Model.open(model, options, cache_dir=cache_dir, say=say, when_needed=True) as opened,
        opened.labels(how) as labels,
        crew_of(EmbedErrand.of(cells, source, model, opened, cache_dir, how, strict=work.strict), work, say)
        if several
        else nullcontext() as crew,
    ):
        job = opened.labelling(source, labels, None if crew is None else crew.engine)
        filler = crew if crew is not None and crew.begun else None  # not, where vectors lie with the cells already
        return labels.into_file(job, path, progress, work, filler)


def preview(
    cells: CellPaths,
    output: Path | str | None,
    model: str | Path,
    options: EmbedOptions = _DEFAULTS,
    *,
    work: WorkOptions | None = _ALL,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Preview:
    """Say what `embed_file` would do, and how long it would take; a few cells are timed, nothing is written.

    Parameters
    ----------
    cells, output, model, options, cache_dir, say
        See `embed_file`. Without an output, room on the disk and what is kept there are not looked at.
    work
        As for `embed_file`: a shard is timed alone, cells that are kept count for nothing, and what the run would
        refuse is refused. None: none of it is looked at, for a job that makes more of the cells than embeddings.
    """
    path = looked_at(cells, output, options)
    if work is not None:
        return look_at(cells, path, model, options, work, cache_dir=cache_dir, say=say)
    with cells_of(cells, options) as source, Model.open(model, options, cache_dir=cache_dir, say=say) as opened:
        return opened.look(source, path)
