"""``scgpt-infer perturb``: what perturbing genes does to control cells, by a perturbation generator.

Reads the words and prints; `scgpt_infer.perturbation` does the work.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.options import (
    engine_options,
    json_option,
    matrix_options,
    model_option,
    path_type,
    quiet_option,
    words_of,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions

if TYPE_CHECKING:
    from scgpt_infer.perturbation import PerturbOptions, PerturbSummary

__all__ = ["command"]

MISSING = 3

_EXAMPLES = """\b
Examples:
  scgpt-infer perturb control.h5ad --model crispr --perturb STAT1 --perturb STAT1+IRF1 -o after.h5ad
  scgpt-infer perturb control.h5ad --model crispr --perturbations pairs.txt --memory 8GiB -o after.parquet
  scgpt-infer perturb screen.h5ad --model crispr --control gene=NT --truth gene -o after.h5ad
"""


@sectioned("perturb", short_help="Expression after genes are perturbed.", epilog=_EXAMPLES)
@click.argument("cells", type=path_type)
@model_option
@option(
    OUTPUT,
    "--output",
    "-o",
    type=path_type,
    required=True,
    help="Where to write mean profiles: .h5ad, .csv, .parquet or .json, by its suffix.",
)
@click.option(
    "--perturb", "-p", "named", multiple=True, metavar="A+B", help="Genes to perturb together; may be repeated."
)
@click.option(
    "--perturbations", type=path_type, help='A file of them: text or CSV, one a line, or JSON such as [["A", "B"]].'
)
@click.option("--per-cell", type=path_type, help="Write the profile of each cell, too: .h5ad.")
@click.option("--only-genes", help="Genes to tell of, with commas.  [default: all that the model knows]")
@click.option("--only-genes-file", type=path_type, help="The same from a text file, one a line.")
@click.option("--control", metavar="COLUMN=VALUE", help="Control cells, by a column of obs.  [default: all cells]")
@click.option("--cells", "n_cells", type=click.IntRange(min=1), help="Take N of the control cells, always the same.")
@click.option(
    "--values",
    type=click.Choice(("auto", "counts", "log1p")),
    default="auto",
    show_default=True,
    help="counts are normalised to 10,000 a cell and logged; log1p values are taken as they are.",
)
@click.option("--memory", metavar="SIZE", help="Memory that the run may take, such as 8GiB.  [default: small batches]")
@click.option("--truth", metavar="COLUMN", help="Column of obs that tells each cell's perturbation: judge by it.")
@click.option("--truth-cells", type=path_type, help="File with that column.  [default: CELLS]")
@click.option("--trained", type=path_type, help="File of the perturbations that the model was trained on.")
@click.option(
    "--threshold", type=click.FloatRange(min=0), help="Smallest change of a mean that counts.  [default: 0.1]"
)
@matrix_options
@engine_options
@quiet_option
@json_option
def command(
    cells: Path,
    model: str,
    output: Path,
    per_cell: Path | None,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Predict the expression of the control cells of CELLS after each perturbation.

    A perturbation is a gene, or several joined by +. With --truth and no perturbation named, all of the truth's are
    predicted. A gene that was wanted and is not there is told: exit code 3.
    """
    how, options = _asked(settings)
    summary = _run(cells, output, model, how, options, per_cell, quiet)
    if as_json:
        click.echo(summary.to_json())
    elif not quiet:
        click.echo(summary.report())
    else:
        for line in summary.left_out():
            click.echo(line, err=True)
    return 0 if summary.complete else MISSING


def _asked(settings: dict[str, Any]) -> "tuple[PerturbOptions, EmbedOptions]":
    """The command's own words taken out of the settings; the rest are fields of `EmbedOptions`, one to one."""
    from scgpt_infer.perturbation import PerturbOptions, read_perturbations
    from scgpt_infer.sizes import bytes_of
    from scgpt_infer.wanted import read_names

    taken = settings.pop
    named, listed, only, file = (taken(name) for name in ("named", "perturbations", "only_genes", "only_genes_file"))
    if only is not None and file is not None:
        raise click.UsageError("--only-genes and --only-genes-file both say which genes: give one of them.")
    genes = words_of(only) if only is not None else () if file is None else read_names(file)
    control, memory, trained, threshold = (taken(name) for name in ("control", "memory", "trained", "threshold"))
    how = PerturbOptions(
        perturbations=named + (() if listed is None else read_perturbations(listed)),
        control=None if control is None else _pair(control),
        cells=taken("n_cells"),
        only=genes,
        values=taken("values"),
        memory=None if memory is None else bytes_of(memory),
        truth=taken("truth"),
        truth_cells=taken("truth_cells"),
        trained=() if trained is None else read_perturbations(trained),
        **({} if threshold is None else {"threshold": threshold}),
    )
    return how, EmbedOptions(**settings)


def _pair(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not (column and sign):
        raise click.UsageError(f"--control is {text!r}; expected COLUMN=VALUE, such as gene=NT.")
    return column, value


def _run(
    cells: Path,
    output: Path,
    model: str,
    how: "PerturbOptions",
    options: EmbedOptions,
    per_cell: Path | None,
    quiet: bool,
) -> "PerturbSummary":
    from scgpt_infer.perturbation import perturb_file

    if quiet:
        return perturb_file(cells, output, model, how, options, per_cell=per_cell)
    with Progress("perturb") as progress:
        return perturb_file(cells, output, model, how, options, progress, per_cell=per_cell, say=aloud)
