"""``scgpt-infer embed``: a file of cells in, their embeddings out.

Reads the words and prints; `scgpt_infer.api` does the work.
"""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.options import (
    cells_options,
    engine_options,
    json_option,
    model_option,
    nowhere,
    path_type,
    quiet_option,
    work_options,
)
from scgpt_infer.cli.progress import Progress, aloud, clock
from scgpt_infer.cli.sections import INPUT, LONG_JOBS, OUTPUT, option, sectioned
from scgpt_infer.interrupts import finishing
from scgpt_infer.options import CHOICES, EmbedOptions
from scgpt_infer.work import WorkOptions

if TYPE_CHECKING:
    from scgpt_infer.readers.source import CellPaths
    from scgpt_infer.summary import Summary

__all__ = ["INCOMPLETE", "bad_cells", "bad_files", "command", "preview", "report"]

INCOMPLETE = 3
"""Exit code of a command that has finished without something that was asked for."""

SHOWN = 10
"""Bad cells that are listed one by one; the JSON summary has more."""

_EPILOG = """\b
Examples:
  scgpt-infer embed pbmc.h5ad --model human -o pbmc.emb.h5ad
  scgpt-infer embed pbmc.h5ad --model human -o vectors.npy --dry-run
  scgpt-infer embed sample1.h5ad sample2.zarr samples/ --model human -o all.parquet

\b
Exit codes, beside those of every command:
  3    the output is there, without files of a set that could not be read, which are listed
  75   stopped as SIGTERM or SIGUSR1 asked, what is done is kept: run the same command again
"""


@sectioned("embed", short_help="Cells become embeddings.", epilog=_EPILOG)
@click.argument("cells", nargs=-1, required=True, type=path_type)
@model_option
@option(
    OUTPUT,
    "--output",
    "-o",
    type=path_type,
    help="Where to write: .h5ad, .zarr, .npy, .parquet, .dataset, .census, .csv, .json or .jsonl, by its suffix.",
)
@option(OUTPUT, "--in-place", is_flag=True, help="Add the embedding to the input .h5ad itself.")
@option(OUTPUT, "--obs-only", is_flag=True, help="Leave the matrix out of an .h5ad output.")
@option(OUTPUT, "--key", help="Name under obsm.  [default: X_scGPT; X_scGPT_demo for demo]")
@option(
    OUTPUT,
    "--dtype",
    type=click.Choice(CHOICES["dtype"]),
    default="float32",
    show_default=True,
    help="What vectors are stored as.",
)
@option(INPUT, "--limit", type=click.IntRange(min=1), help="The first N cells only.")
@option(LONG_JOBS, "--dry-run", is_flag=True, help="Say what would happen and how long it would take; write nothing.")
@cells_options
@engine_options
@work_options
@quiet_option
@json_option
def command(
    cells: tuple[Path, ...],
    model: str,
    output: Path | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Embed the cells of CELLS with a scGPT model.

    CELLS is a file; or several, or a folder of them, as one data set.

    A cell that cannot be embedded gets a row of NaN and is listed with its reason; it never ends the job. Nor does a
    file of several that cannot be read: it is listed, and the exit code is 3.
    """
    named = cells[0] if len(cells) == 1 else list(cells)
    work = WorkOptions(**{one.name: settings.pop(one.name) for one in fields(WorkOptions) if one.name in settings})
    options = EmbedOptions(**settings)  # the remaining options are its fields, one to one
    if output is not None and options.in_place:
        raise click.UsageError("-o and --in-place do not go together: choose a new file, or the input itself.")
    if dry_run:
        preview(named, output, model, options, as_json, work)
        return 0
    if output is None and not options.in_place:
        raise nowhere()
    summary = _embed(named, output, model, options, work, quiet)
    if as_json:
        click.echo(summary.to_json())
    elif not quiet:
        click.echo(report(summary))
    elif summary.bad or summary.bad_files:
        click.echo("\n".join(bad_cells(summary) + bad_files(summary)), err=True)
    return INCOMPLETE if summary.bad_files else 0


def preview(
    cells: "CellPaths",
    output: Path | None,
    model: str,
    options: EmbedOptions,
    as_json: bool,
    work: WorkOptions | None = None,
) -> None:
    """Print what a job would do; without `work`, of its vectors alone."""
    from scgpt_infer import api

    found = api.preview(cells, output, model, options, work=work, say=aloud)
    click.echo(found.to_json() if as_json else found.report())


def _embed(
    cells: "CellPaths", output: Path | None, model: str, options: EmbedOptions, work: WorkOptions, quiet: bool
) -> "Summary":
    from scgpt_infer import api

    if quiet:
        with finishing():  # also while the model is opened: a scheduler is told to try again
            return api.embed_file(cells, output, model, options, work=work)
    with finishing(), Progress("embed") as progress:
        return api.embed_file(cells, output, model, options, progress, work=work, say=aloud)


def report(summary: "Summary") -> str:
    """What a run did, for people."""
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in summary.seconds.items())
    tokens = f"longest cell {summary.longest:,}, at most {summary.max_length:,}; seed {summary.seed}"
    share = f"Shard {summary.shard}: " if summary.shard else ""
    lines = [
        f"{share}{summary.n_embedded:,} of {summary.n_cells:,} cells embedded in {clock(summary.wall_seconds)} "
        f"({summary.cells_per_second:,.1f} cells/s; peak memory {summary.peak_bytes / 2**30:.2f} GiB)",
        *([f"  kept       {summary.n_kept:,} of them an earlier run had done"] if summary.n_kept else []),
        *([f"  next       scgpt-infer merge {summary.output} -o OUTPUT, when all are done"] if share else []),
        f"  output     {summary.output}, {summary.key}, {summary.dim} wide",
        f"  model      {summary.model}, vector id {summary.vector_id}",
        f"  genes      {summary.n_matched:,} of {summary.n_genes:,} known ({summary.match_fraction:.1%}), "
        f"names from {summary.gene_col}",
        f"  counts     {summary.counts}, {summary.values} ({summary.counts_why})",
        *([f"  tokens     {tokens}"] if summary.longest else []),  # none, where vectors lay with the cells
        f"  ran on     {summary.why}",
        f"  stages     {stages} (they overlap)",
    ]
    return "\n".join(lines + bad_cells(summary) + bad_files(summary))


def bad_cells(summary: "Summary") -> list[str]:
    """Lines about the cells without an embedding: how many by reason, then the first ones by name."""
    if not summary.n_bad:
        return []
    lines = [f"{summary.n_bad:,} cells have no embedding (NaN):"]
    lines += [f"  {count:,} x {reason}" for reason, count in summary.reasons.items()]
    lines += [f"  row {cell.row} ({cell.name}): {cell.reason}" for cell in summary.bad[:SHOWN]]
    if summary.n_bad > SHOWN:
        lines.append(f"  and {summary.n_bad - SHOWN:,} more; --json lists them")
    return lines


def bad_files(summary: "Summary") -> list[str]:
    """Lines about the files of which cells are missing."""
    if not summary.bad_files:
        return []
    count = len(summary.bad_files)
    told = "file could not be read, or not all of it:" if count == 1 else "files could not be read, or not all of them:"
    lines = [f"{count:,} {told}"]
    lines += [f"  {one.path}: {one.reason}" for one in summary.bad_files[:SHOWN]]
    if count > SHOWN:
        lines.append(f"  and {count - SHOWN:,} more; --json lists them")
    return lines
