"""``scgpt-infer index``: labelled cells in, a reference for ``scgpt-infer annotate --reference`` out.

Reads the words and prints; `scgpt_infer.indexing` does the work.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from scgpt_infer.cli.embed import bad_cells
from scgpt_infer.cli.options import (
    cells_options,
    engine_options,
    json_option,
    model_option,
    path_type,
    quiet_option,
    wanted_options,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import INPUT, OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions

if TYPE_CHECKING:
    from scgpt_infer.reference import Kind

__all__ = ["command"]

_EXAMPLES = """\b
Examples:
  scgpt-infer index labelled.h5ad --label cell_type --model human -o ref.index
  scgpt-infer index labelled.h5ad --label cell_type --ignore doublet --exclude batch=3 --model human -o ref.index
  scgpt-infer annotate cells.h5ad --model human --reference ref.index -o types.h5ad
"""


@sectioned("index", short_help="Labelled cells become a reference for annotate.", epilog=_EXAMPLES)
@click.argument("cells", type=path_type)
@model_option
@click.option("--label", required=True, help="Column of obs with the labels; cells without one are left out.")
@option(OUTPUT, "--output", "-o", type=path_type, required=True, help="Folder to make.")
@click.option(
    "--kind",
    type=click.Choice(("auto", "exact", "hnsw", "ivfpq")),
    default="auto",
    show_default=True,
    help="exact looks at every cell; ivfpq is for millions, in little memory; hnsw is faster, takes more memory and "
    "finds a little less. auto: exact or ivfpq, by the number of cells.",
)
@wanted_options
@option(INPUT, "--key", help="Name under obsm of vectors that lie with the cells already.  [default: X_scGPT]")
@option(INPUT, "--limit", type=click.IntRange(min=1), help="The first N cells only.")
@cells_options
@engine_options
@quiet_option
@json_option
def command(
    cells: Path,
    model: str,
    label: str,
    output: Path,
    kind: str,
    ignore: tuple[str, ...],
    exclude: tuple[tuple[str, str], ...],
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Embed the labelled cells of CELLS with a scGPT model and index them as a reference.

    Vectors that this model has written into CELLS before are taken as they are. Only vectors of the same model with
    the same settings can be labelled by the index.
    """
    from scgpt_infer.indexing import index_file

    options = EmbedOptions(**settings)  # the remaining options are fields of it, one to one
    index = partial(
        index_file, cells, output, model, label, options, kind=cast("Kind", kind), ignore=ignore, exclude=exclude
    )
    if quiet:
        summary = index()
    else:
        with Progress("embed") as progress:
            summary = index(progress=progress, say=aloud)
    if as_json:
        click.echo(summary.to_json())
    elif not quiet:
        click.echo("\n".join([summary.report(), *bad_cells(summary.embedded)]))
    elif summary.embedded.bad:
        click.echo("\n".join(bad_cells(summary.embedded)), err=True)
