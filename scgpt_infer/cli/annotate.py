"""``scgpt-infer annotate``: a file of cells in, their types and embeddings out.

Reads the words and prints; `scgpt_infer.api` does the work.
"""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.embed import INCOMPLETE, bad_cells, bad_files, preview
from scgpt_infer.cli.embed import report as run_report
from scgpt_infer.cli.lines import short
from scgpt_infer.cli.options import (
    cells_options,
    engine_options,
    json_option,
    model_option,
    names_of,
    names_option,
    nowhere,
    path_type,
    quiet_option,
    resume_option,
    sharing_options,
    words_of,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import INPUT, LONG_JOBS, OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OutputError

if TYPE_CHECKING:
    from scgpt_infer.annotating import Annotated, AnnotateOptions
    from scgpt_infer.evaluation import Confusion
    from scgpt_infer.readers.source import CellPaths

__all__ = ["command", "report"]

SHOWN = 20
"""Labels that are listed with their number of cells."""

_EXAMPLES = """\b
Examples:
  scgpt-infer annotate cells.csv --model demo -o types.json
  scgpt-infer annotate cells.h5ad --model taught -o types.h5ad --truth cell_type --by donor,assay
  scgpt-infer annotate cells.h5ad --model human --reference ref.index -o types.h5ad
"""


@sectioned("annotate", short_help="Cells become cell types, and embeddings in the same pass.", epilog=_EXAMPLES)
@click.argument("cells", nargs=-1, required=True, type=path_type)
@model_option
@option(
    OUTPUT,
    "--output",
    "-o",
    type=path_type,
    help="Where to write: .h5ad, .zarr, .json, .jsonl, .csv, .parquet or .dataset, by its suffix.",
)
@option(OUTPUT, "--in-place", is_flag=True, help="Add types and embedding to the input .h5ad itself.")
@option(OUTPUT, "--obs-only", is_flag=True, help="Leave the matrix out of an .h5ad output.")
@option(OUTPUT, "--key", help="Name of the embedding under obsm.  [default: X_scGPT; X_scGPT_demo for demo]")
@option(OUTPUT, "--prefix", default="scgpt_", show_default=True, help="What the new columns of obs begin with.")
@option(INPUT, "--limit", type=click.IntRange(min=1), help="The first N cells only.")
@click.option(
    "--reference",
    type=path_type,
    help="Labels by the nearest cells of an index (scgpt-infer index), or of scGPT's atlas folder, instead of by the "
    "model's classifier.",
)
@click.option(
    "-k", "k", type=click.IntRange(min=1), help="Nearest reference cells that vote.  [default: 10; atlas: 50]"
)
@click.option(
    "--weights",
    type=click.Choice(("majority", "distance")),
    default="majority",
    show_default=True,
    help="Whether nearer reference cells count more.",
)
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Candidates told of each cell.")
@click.option(
    "--unknown-below",
    type=click.FloatRange(0, 1),
    help="A cell whose best label has less confidence is unknown.  [default: 0.5 for a classifier, 0 for a reference]",
)
@option(OUTPUT, "--with-vectors", is_flag=True, help="Put the embedding into .json, .jsonl, .csv and .parquet too.")
@click.option("--recompute", is_flag=True, help="Run the model even if its vectors lie with the cells already.")
@option(LONG_JOBS, "--dry-run", is_flag=True, help="Say what would happen and how long it would take; write nothing.")
@click.option("--truth", help="Column of obs with the right labels: judge the answers by it.")
@click.option("--by", default="", help="Columns of obs, separated by commas: figures for each of their values.")
@names_option
@click.option("--confusion", type=path_type, help="Write the confusion matrix there: .png or .json, by its suffix.")
@cells_options
@engine_options
@resume_option
@sharing_options
@quiet_option
@json_option
def command(
    cells: tuple[Path, ...],
    model: str,
    output: Path | None,
    names: Path | None,
    by: str,
    confusion: Path | None,
    dry_run: bool,
    resume: bool,
    workers: int | None,
    ray: str | None,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Tell the types of the cells of CELLS with a scGPT model, and embed them in the same pass.

    CELLS is a file; or several, or a folder of them, as one data set.

    Types come from the model's classifier (fine-tuned, or taught with scgpt-infer learn), or from the nearest cells of
    a reference. Vectors that this model has written into CELLS before are taken as they are.
    """
    from scgpt_infer.annotating import AnnotateOptions

    named = cells[0] if len(cells) == 1 else list(cells)
    ours = {field.name for field in fields(AnnotateOptions)}
    how = AnnotateOptions(
        **{name: value for name, value in settings.items() if name in ours},
        by=words_of(by),
        names=names_of(names),
    )
    options = EmbedOptions(**{name: value for name, value in settings.items() if name not in ours})
    if dry_run:
        preview(named, output, model, how.fitting(options), as_json)
        return 0
    _check(output, options, how, confusion)
    work = WorkOptions(resume=resume, workers=workers, ray=ray)
    found = _annotate(named, output, model, options, how, work, quiet)
    if confusion is not None and found.evaluation is not None:
        _draw(found.evaluation.confusion, confusion)
    if as_json:
        click.echo(found.to_json())
    elif not quiet:
        click.echo(report(found))
    elif found.summary.bad or found.summary.bad_files:
        click.echo("\n".join(bad_cells(found.summary) + bad_files(found.summary)), err=True)
    return INCOMPLETE if found.summary.bad_files else 0


def report(found: "Annotated") -> str:
    """What a run told, for people."""
    shown = [(short(label), count) for label, count in list(found.counts.items())[:SHOWN]]
    width = max((len(label) for label, _ in shown), default=0)
    lines = [
        run_report(found.summary),
        "",
        f"Labels by {found.labels_from}"
        + (f"; unknown where the confidence is below {found.unknown_below:g}:" if found.unknown_below else ":"),
        *(f"  {label:<{width}}  {count:>9,}  {count / found.summary.n_cells:6.1%}" for label, count in shown),
    ]
    if len(found.counts) > SHOWN:
        lines.append(f"  and {len(found.counts) - SHOWN:,} more labels; --json lists them")
    if found.evaluation is not None:
        lines += ["", found.evaluation.report()]
    return "\n".join(lines)


def _check(output: Path | None, options: EmbedOptions, how: "AnnotateOptions", confusion: Path | None) -> None:
    if output is not None and options.in_place:
        raise click.UsageError("-o and --in-place do not go together: choose a new file, or the input itself.")
    if output is None and not options.in_place:
        raise nowhere(".census", ".npy")
    if confusion is None:
        return
    if how.truth is None:
        raise click.UsageError("--confusion needs the right labels: name their column of obs with --truth.")
    if confusion.suffix.lower() not in (".png", ".json"):
        raise click.UsageError(f"--confusion writes .png or .json, and {confusion.name} is neither.")


def _annotate(
    cells: "CellPaths",
    output: Path | None,
    model: str,
    options: EmbedOptions,
    how: "AnnotateOptions",
    work: WorkOptions,
    quiet: bool,
) -> "Annotated":
    from scgpt_infer import api

    if quiet:
        return api.annotate_file(cells, output, model, options, how, work=work)
    with Progress("annotate") as progress:
        return api.annotate_file(cells, output, model, options, how, progress, work=work, say=aloud)


def _draw(confusion: "Confusion", path: Path) -> None:
    from scgpt_infer.evaluation import confusion_png

    content = confusion_png(confusion) if path.suffix.lower() == ".png" else confusion.to_json().encode()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error}. Name another file.") from error
