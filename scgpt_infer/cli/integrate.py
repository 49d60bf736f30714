"""``scgpt-infer integrate``: cells of several batches in, embeddings in one space out, and scores.

Reads the words and prints; `scgpt_infer.integration` does the work.
"""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.embed import INCOMPLETE, bad_cells, bad_files
from scgpt_infer.cli.embed import report as run_report
from scgpt_infer.cli.lines import short
from scgpt_infer.cli.options import (
    batch_options,
    cells_options,
    engine_options,
    json_option,
    model_option,
    names_of_batches,
    nowhere,
    path_type,
    quiet_option,
    resume_option,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import INPUT, OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OutputError

if TYPE_CHECKING:
    from scgpt_infer.integration import Integrated, IntegrateOptions
    from scgpt_infer.readers.source import CellPaths

__all__ = ["command", "report"]

SHOWN = 20
"""Batches that are listed with their number of cells."""

_EXAMPLES = """\b
Examples:
  scgpt-infer integrate cells.h5ad --model tuned --batch donor -o out.h5ad
  scgpt-infer integrate new.h5ad --model tuned --batch donor --batch-fallback day1 -o out.h5ad
  scgpt-infer integrate cells.h5ad --model human --batch donor --scores scores.json --label cell_type -o out.h5ad
"""


@sectioned("integrate", short_help="Cells of several batches become embeddings in one space.", epilog=_EXAMPLES)
@click.argument("cells", nargs=-1, required=True, type=path_type)
@model_option
@option(
    OUTPUT,
    "--output",
    "-o",
    type=path_type,
    help="Where to write: .h5ad, .zarr, .npy, .parquet, .dataset or .csv, by its suffix.",
)
@option(OUTPUT, "--in-place", is_flag=True, help="Add the embedding to the input .h5ad itself.")
@option(OUTPUT, "--obs-only", is_flag=True, help="Leave the matrix out of an .h5ad output.")
@option(OUTPUT, "--key", help="Name under obsm.  [default: X_scGPT; X_scGPT_demo for demo]")
@option(INPUT, "--limit", type=click.IntRange(min=1), help="The first N cells only.")
@batch_options
@click.option(
    "--batch-statistics",
    type=click.Choice(("cell", "first")),
    default="cell",
    show_default=True,
    help="Whose statistics a cell gets: its own batch's, or, as the original has it, those of the first of 64 cells.",
)
@click.option("--scores", type=path_type, help="Write scores of scib-metrics there (JSON); needs --label.")
@click.option("--label", help="Column of obs with cell types, for --scores.")
@click.option("--ignore", multiple=True, metavar="LABEL", help="Leave cells of this type out of the scores.")
@cells_options
@engine_options
@resume_option
@quiet_option
@json_option
def command(
    cells: tuple[Path, ...],
    model: str,
    output: Path | None,
    batch_map: Path | None,
    scores: Path | None,
    resume: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Embed the cells of CELLS, of several batches, into one space.

    CELLS is a file; or several, or a folder of them, as one data set, whose column scgpt_file names the file.

    A model with statistics of batches (DSBN) normalises each cell with those of its own batch; for any other the
    vectors are those of embed. A cell without a batch gets a row of NaN and is listed; an unknown batch is an error.
    """
    from scgpt_infer.integration import IntegrateOptions

    ours = {field.name for field in fields(IntegrateOptions)}
    told = {name: value for name, value in settings.items() if name in ours}
    how = IntegrateOptions(**told, batch_map=names_of_batches(batch_map))
    options = EmbedOptions(**{name: value for name, value in settings.items() if name not in ours})
    _check(output, options, how, scores)
    found = _integrate(
        cells[0] if len(cells) == 1 else list(cells), output, model, how, options, WorkOptions(resume=resume), quiet
    )
    if scores is not None and found.scores is not None:
        _write(found.scores.to_json(), scores)
    if as_json:
        click.echo(found.to_json())
    elif not quiet:
        click.echo(report(found))
    elif found.summary.bad or found.summary.bad_files:
        click.echo("\n".join(bad_cells(found.summary) + bad_files(found.summary)), err=True)
    return INCOMPLETE if found.summary.bad_files else 0


def report(found: "Integrated") -> str:
    """What a run did, for people."""
    lines = [run_report(found.summary), "", *_of_batches(found)]
    if found.scores is not None:
        lines += ["", found.scores.report()]
    return "\n".join(lines)


def _of_batches(found: "Integrated") -> list[str]:
    if found.batches is None:
        return ["The model has no statistics of batches: these are the vectors that embed gives (zero-shot)."]
    batches, how = found.batches, found.batches.how
    rule = {"cell": "each cell has those of its batch", "first": "64 cells have those of the first, as the original"}
    lines = [f"Statistics of {len(batches.counts)} batches ({how.batch}); {rule[how.batch_statistics]}:"]
    shown = [(short(name), count) for name, count in list(batches.counts.items())[:SHOWN]]
    width = max(len(name) for name, _ in shown)
    lines += [f"  {name:<{width}}  {count:>9,}" for name, count in shown]
    if len(batches.counts) > SHOWN:
        lines.append(f"  and {len(batches.counts) - SHOWN:,} more; --json lists them")
    if batches.by_fallback:
        lines.append(f"  {batches.by_fallback:,} of them are of unknown batches and have those of {how.batch_fallback}")
    if batches.of_others:
        lines.append(f"  {batches.of_others:,} of them are of another batch than the one whose statistics they have")
    return lines


def _check(output: Path | None, options: EmbedOptions, how: "IntegrateOptions", scores: Path | None) -> None:
    if output is not None and options.in_place:
        raise click.UsageError("-o and --in-place do not go together: choose a new file, or the input itself.")
    if output is None and not options.in_place:
        raise nowhere()
    if (scores is None) != (how.label is None):
        raise click.UsageError("--scores and --label go together: where scores are written, and the types they need.")


def _integrate(
    cells: "CellPaths",
    output: Path | None,
    model: str,
    how: "IntegrateOptions",
    options: EmbedOptions,
    work: WorkOptions,
    quiet: bool,
) -> "Integrated":
    from scgpt_infer.integration import integrate_file

    if quiet:
        return integrate_file(cells, output, model, how, options, work=work)
    with Progress("integrate") as progress:
        return integrate_file(cells, output, model, how, options, progress, work=work, say=aloud)


def _write(text: str, path: Path) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error}. Name another file.") from error
