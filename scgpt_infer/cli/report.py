"""``scgpt-infer report``: an embedded file in, one HTML page about it out.

`scgpt_infer.report` gathers, draws and writes; this module reads the words.
"""

from pathlib import Path
from typing import Any

import click

from scgpt_infer.cli.options import path_type, words_of
from scgpt_infer.cli.progress import aloud

__all__ = ["command"]

_EXAMPLES = """\b
Examples:
  scgpt-infer report annotated.h5ad -o report.html
  scgpt-infer report annotated.h5ad -o report.html --by sample,donor --colour leiden
  scgpt-infer report annotated.h5ad -o report.html --umap-key X_umap
"""


@click.command("report", short_help="A page about an embedded or annotated file.", epilog=_EXAMPLES)
@click.argument("cells", type=path_type)
@click.option("--output", "-o", type=path_type, required=True, help="Where to write the page (.html).")
@click.option(
    "--by",
    default="",
    help="Columns of obs, separated by commas: the shares of cell types in each of their values.  [default: sample, "
    "donor, patient or batch]",
)
@click.option("--colour", default="", help="Columns of obs, separated by commas, to colour the map by.")
@click.option("--key", help="Name of the embedding under obsm.  [default: what the file's record names]")
@click.option("--umap-key", metavar="KEY", help="Take places from obsm, such as X_umap, instead of computing them.")
@click.option(
    "--max-cells",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Most cells on the map; of more, some are taken evenly. All else tells of all cells.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress; only what went wrong.")
def command(cells: Path, output: Path, by: str, colour: str, quiet: bool, **settings: Any) -> None:
    """Write one HTML page about CELLS, an .h5ad file that embed or annotate wrote.

    It has a map of the cells to look around in, the cell types and how sure they are, their shares in each sample, how
    the genes met the model, and what made the result. The page holds all it needs and loads nothing.
    """
    from scgpt_infer.report.finding import ReportOptions, find
    from scgpt_infer.report.page import page
    from scgpt_infer.report.reading import EmbeddedFile
    from scgpt_infer.writers.sink import beside, sync

    if not output.absolute().parent.is_dir():
        raise click.UsageError(f"There is no folder {output.absolute().parent} to write {output.name} into.")
    if output.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"{output} is no name of a page; expected one that ends in .html.")
    options = ReportOptions(by=words_of(by), colour=words_of(colour), **settings)  # the rest is its fields, one to one
    with EmbeddedFile(cells) as file:
        told = page(find(file, options, (lambda line: None) if quiet else aloud))
    with beside(output) as temporary:
        temporary.write_text(told, encoding="utf-8", errors="replace")
        sync(temporary, output)
    if not quiet:
        click.echo(f"{output}")
