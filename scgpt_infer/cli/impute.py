"""``scgpt-infer impute``: a file of cells in, predicted values of chosen genes out.

Reads the words and prints; `scgpt_infer.imputation` does the work.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.embed import bad_cells
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
    words_of,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import INPUT, OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions
from scgpt_infer.work import WorkOptions

if TYPE_CHECKING:
    from scgpt_infer.imputation import Imputed, ImputeOptions

__all__ = ["command"]

GENES_UNKNOWN = 3

_EXAMPLES = """\b
Examples:
  scgpt-infer impute cells.h5ad --model human --only CD3D,MS4A1 -o values.json
  scgpt-infer impute cells.h5ad --model human --genes-file panel.txt --hide each -o values.parquet
  scgpt-infer impute cells.h5ad --model human --only LYZ --from embedding --units bins -o values.csv
"""


@sectioned("impute", short_help="Predicted values of chosen genes.", epilog=_EXAMPLES)
@click.argument("cells", type=path_type)
@model_option
@click.option("--only", help="Genes that are wanted, with commas: symbols or Ensembl ids.")
@click.option("--genes-file", type=path_type, help="The same from a text file, one a line.")
@option(
    OUTPUT,
    "--output",
    "-o",
    type=path_type,
    help="Where to write: .json, .jsonl, .h5ad, .zarr, .csv, .parquet or .dataset.",
)
@option(OUTPUT, "--in-place", is_flag=True, help="Add the values to the input .h5ad itself.")
@click.option(
    "--from",
    "predict_from",
    type=click.Choice(["tokens", "embedding"]),
    help="What predicts: masked tokens, or the cell embedding (MVC).  [default: tokens, where the model can]",
)
@click.option(
    "--hide",
    type=click.Choice(["together", "each", "none"]),
    help="What the model is not shown: all wanted genes, one at a time, nothing.  [default: together; none with "
    "--from embedding]",
)
@click.option(
    "--units",
    type=click.Choice(["values", "expected", "bins"]),
    default="values",
    show_default=True,
    help="The cell's own scale, without or with zeros weighed in, or the model's bins.",
)
@batch_options
@click.option("--cells", "chosen", help="Names of the cells that are wanted, with commas.  [default: all]")
@click.option("--cells-file", type=path_type, help="The same from a text file, one a line.")
@option(OUTPUT, "--key", help="Name under obsm of an .h5ad.  [default: X_scGPT_imputed; X_scGPT_demo_imputed for demo]")
@option(OUTPUT, "--obs-only", is_flag=True, help="Leave the matrix out of an .h5ad output.")
@option(INPUT, "--limit", type=click.IntRange(min=1), help="The first N cells only.")
@cells_options
@engine_options
@resume_option
@quiet_option
@json_option
def command(
    cells: Path,
    model: str,
    only: str | None,
    genes_file: Path | None,
    output: Path | None,
    predict_from: Any,
    hide: Any,
    units: Any,
    batch: str | None,
    batch_map: Path | None,
    batch_fallback: str | None,
    chosen: str | None,
    cells_file: Path | None,
    resume: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Predict the values of chosen genes in the cells of CELLS, whether a cell expresses them or not.

    A measured value that is hidden has no part in its prediction. Genes that the file lacks are predicted, too. A gene
    that the model does not know is told: exit code 3.
    """
    from scgpt_infer.imputation import ImputeOptions
    from scgpt_infer.integration import IntegrateOptions

    genes = _names(only, genes_file, "--only", "--genes-file", "gene")
    if not genes:
        raise click.UsageError("No gene was asked for: give --only A,B or --genes-file FILE.")
    names = _names(chosen, cells_file, "--cells", "--cells-file", "cell")
    batches = IntegrateOptions(batch, names_of_batches(batch_map), batch_fallback)
    how = ImputeOptions(predict_from, hide, units, names, batches)
    options = EmbedOptions(**settings)  # the remaining options are its fields, one to one
    if output is None and not options.in_place:
        raise nowhere(".census", ".npy")
    done = _impute(cells, output, model, genes, options, how, WorkOptions(resume=resume), quiet)
    bad = bad_cells(done.summary)
    if as_json:
        click.echo(done.to_json())
    elif not quiet:
        click.echo("\n".join([done.report(), *bad]))
    elif bad:
        click.echo("\n".join(bad), err=True)
    return GENES_UNKNOWN if done.unknown else 0


def _names(told: str | None, file: Path | None, option: str, file_option: str, what: str) -> tuple[str, ...]:
    from scgpt_infer.wanted import read_names

    if told is not None and file is not None:
        raise click.UsageError(f"{option} and {file_option} both say which {what}s: give one of them.")
    return words_of(told) if told is not None else read_names(file, what) if file is not None else ()


def _impute(
    cells: Path,
    output: Path | None,
    model: str,
    genes: tuple[str, ...],
    options: EmbedOptions,
    how: "ImputeOptions",
    work: WorkOptions,
    quiet: bool,
) -> "Imputed":
    from scgpt_infer.imputation import impute_file

    if quiet:
        return impute_file(cells, output, model, genes, options, how, work=work)
    with Progress("impute") as progress:
        return impute_file(cells, output, model, genes, options, how, progress, work=work, say=aloud)
