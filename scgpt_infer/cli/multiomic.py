"""``scgpt-infer multiomic``: cells of several modalities in, embeddings and predicted values out.

Reads the words and prints; `scgpt_infer.multiomics` does the work.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.embed import bad_cells
from scgpt_infer.cli.embed import report as run_report
from scgpt_infer.cli.options import (
    batch_options,
    engine_options,
    json_option,
    model_option,
    names_of_batches,
    nowhere,
    path_type,
    quiet_option,
    resume_option,
    several_options,
    words_of,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import INPUT, OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions
from scgpt_infer.work import WorkOptions

if TYPE_CHECKING:
    from scgpt_infer.multiomics import Multiomic, MultiomicOptions

__all__ = ["command", "report"]

_EXAMPLES = """\b
Examples:
  scgpt-infer multiomic cells.h5mu --model cite -o out.h5ad
  scgpt-infer multiomic cells.h5ad --model cite --map RNA=X,Protein=protein_counts -o out.json
  scgpt-infer multiomic rna.h5ad --model cite --map RNA=X --predict Protein -o proteins.csv
"""


def _map(context: click.Context, parameter: click.Parameter, told: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for words in words_of(",".join(told)):
        name, _, theirs = words.partition("=")
        if not (name and theirs):
            raise click.BadParameter(f"{words!r} is not MODEL=CELLS, such as Protein=protein_counts.")
        if name in pairs:
            raise click.BadParameter(f"{name} is {pairs[name]} and {theirs}. Give it one modality of the cells.")
        pairs[name] = theirs
    return pairs


@sectioned("multiomic", short_help="Cells of several modalities become embeddings.", epilog=_EXAMPLES)
@click.argument("cells", type=path_type)
@model_option
@option(
    OUTPUT,
    "--output",
    "-o",
    type=path_type,
    help="Where to write: .h5ad, .zarr, .json, .jsonl, .csv, .parquet, .dataset or .npy.",
)
@option(OUTPUT, "--in-place", is_flag=True, help="Add the result to the input .h5ad itself.")
@option(OUTPUT, "--obs-only", is_flag=True, help="Leave the matrix out of an .h5ad output.")
@option(OUTPUT, "--key", help="Name of the embedding under obsm.  [default: X_scGPT]")
@option(INPUT, "--limit", type=click.IntRange(min=1), help="The first N cells only.")
@click.option(
    "--map",
    "modalities",
    metavar="MODEL=CELLS,...",
    multiple=True,
    callback=_map,
    help="Which modality of CELLS is which of the model; only these are read.  [default: by their names]",
)
@click.option(
    "--predict",
    default="",
    metavar="NAMES",
    help="Predict values of these features or of all of these modalities, measured or not; separated by commas.",
)
@click.option("--predict-file", type=path_type, help="The same from a text file, one a line.")
@click.option(
    "--from",
    "predict_from",
    type=click.Choice(("embedding", "tokens")),
    default="embedding",
    show_default=True,
    help="Predict from the cell's vector, or from its tokens, where these features are hidden.",
)
@click.option("--alone", is_flag=True, help="Tell a vector of each modality alone too.")
@batch_options
@several_options
@engine_options
@resume_option
@quiet_option
@json_option
def command(
    cells: Path,
    model: str,
    output: Path | None,
    modalities: dict[str, str],
    predict: str,
    predict_file: Path | None,
    predict_from: Any,
    alone: bool,
    batch: str | None,
    batch_map: Path | None,
    batch_fallback: str | None,
    resume: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Embed the cells of CELLS by all of their modalities, with a model that was trained on several.

    CELLS is MuData, or AnnData with proteins in obsm or a column of var that tells the type of each feature. A cell
    without one modality is embedded by the others.
    """
    from scgpt_infer.integration import IntegrateOptions
    from scgpt_infer.multiomics import MultiomicOptions
    from scgpt_infer.wanted import read_names

    if predict and predict_file is not None:
        raise click.UsageError("--predict and --predict-file both say which features: give one of them.")
    batches = IntegrateOptions(batch, names_of_batches(batch_map), batch_fallback)
    asked = read_names(predict_file) if predict_file is not None else words_of(predict)
    how = MultiomicOptions(modalities, asked, predict_from, alone, batches)
    options = EmbedOptions(**settings)  # the remaining options are fields of it, one to one
    if output is not None and options.in_place:
        raise click.UsageError("-o and --in-place do not go together: choose a new file, or the input itself.")
    if output is None and not options.in_place:
        raise nowhere(".census")
    found = _run(cells, output, model, how, options, WorkOptions(resume=resume), quiet)
    if as_json:
        click.echo(found.to_json())
    elif not quiet:
        click.echo(report(found))
    elif found.summary.bad:
        click.echo("\n".join(bad_cells(found.summary)), err=True)


def report(found: "Multiomic") -> str:
    """What a run did, for people."""
    lines = [run_report(found.summary), "", "Modalities of the model, and what was read as such:"]
    for name, (theirs, features, known) in found.modalities.items():
        lines.append(f"  {name:<10}  {theirs}: {known:,} of {features:,} features are known")
    if found.not_read:
        lines.append(f"  not read:   {', '.join(found.not_read)}")
    if found.predicted:
        lines.append(f"Predicted: {', '.join(f'{count:,} of {name}' for name, count in found.predicted.items())}")
    return "\n".join(lines)


def _run(
    cells: Path,
    output: Path | None,
    model: str,
    how: "MultiomicOptions",
    options: EmbedOptions,
    work: WorkOptions,
    quiet: bool,
) -> "Multiomic":
    from scgpt_infer.multiomics import multiomic_file

    if quiet:
        return multiomic_file(cells, output, model, how, options, work=work)
    with Progress("multiomic") as progress:
        return multiomic_file(cells, output, model, how, options, progress, work=work, say=aloud)
