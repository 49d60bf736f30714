"""``scgpt-infer genes``: vectors of genes, the model's own or those in a file of cells.

Reads the words and prints; `scgpt_infer.gene_vectors` does the work.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.embed import bad_cells
from scgpt_infer.cli.options import (
    cells_options,
    engine_options,
    json_option,
    model_option,
    path_type,
    quiet_option,
    words_of,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import INPUT, OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions

if TYPE_CHECKING:
    from scgpt_infer.gene_vectors import GeneOptions, GeneSummary

__all__ = ["command"]

GENES_MISSING = 3

_EXAMPLES = """\b
Examples:
  scgpt-infer genes --model human -o genes.h5ad                          the model's own embeddings
  scgpt-infer genes cells.h5ad --model human --by cell_type -o genes.h5ad
  scgpt-infer genes cells.h5ad --model human --only CD3D,LYZ --per-cell -o genes.parquet
"""


@sectioned("genes", short_help="Vectors of genes, without cells or in them.", epilog=_EXAMPLES)
@click.argument("cells", type=path_type, required=False)
@model_option
@option(
    OUTPUT,
    "--output",
    "-o",
    type=path_type,
    required=True,
    help="Where to write: .h5ad, .npy, .parquet, .csv or .json, by its suffix.",
)
@click.option("--only", help="Genes that are wanted, with commas: symbols or Ensembl ids.  [default: all]")
@click.option("--genes-file", type=path_type, help="The same from a text file, one a line.")
@click.option("--by", help="Column of obs: one set of vectors for each of its values.")
@click.option(
    "--min-cells",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Leave genes out that are seen in fewer cells (of a group).",
)
@click.option("--per-cell", is_flag=True, help="A row for each gene of each cell instead of means; to .parquet.")
@option(OUTPUT, "--key", help="Name under obsm of an .h5ad.  [default: X_scGPT_genes; X_scGPT_demo_genes for demo]")
@option(INPUT, "--limit", type=click.IntRange(min=1), help="The first N cells only.")
@cells_options
@engine_options
@quiet_option
@json_option
def command(
    cells: Path | None,
    model: str,
    output: Path,
    only: str | None,
    genes_file: Path | None,
    by: str | None,
    min_cells: int,
    per_cell: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Write vectors of genes: the model's own embeddings, or, with CELLS, what it makes of genes in cells.

    In cells a gene's vector is the mean of its hidden states in the last layer. A gene that was asked for and has no
    vector is told: exit code 3.
    """
    from scgpt_infer.gene_vectors import GeneOptions, read_names

    if only is not None and genes_file is not None:
        raise click.UsageError("--only and --genes-file both say which genes: give one of them.")
    names = words_of(only) if only is not None else read_names(genes_file) if genes_file is not None else ()
    how = GeneOptions(names, by, min_cells, per_cell)
    options = EmbedOptions(**settings)  # the remaining options are fields of it, one to one
    summary = _run(cells, output, model, how, options, quiet)
    bad = [] if summary.cells is None else bad_cells(summary.cells)
    if as_json:
        click.echo(summary.to_json())
    elif not quiet:
        click.echo("\n".join([summary.report(), *bad]))
    elif bad:
        click.echo("\n".join(bad), err=True)
    return 0 if summary.complete else GENES_MISSING


def _run(
    cells: Path | None, output: Path, model: str, how: "GeneOptions", options: EmbedOptions, quiet: bool
) -> "GeneSummary":
    from scgpt_infer.gene_vectors import genes_file

    if quiet:
        return genes_file(output, model, cells, how, options)
    if cells is None:
        return genes_file(output, model, None, how, options, say=aloud)
    with Progress("genes") as progress:
        return genes_file(output, model, cells, how, options, progress, say=aloud)
