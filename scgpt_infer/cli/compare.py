"""``scgpt-infer compare``: what each precision costs and gives on labelled cells of the user's own.

`scgpt_infer.compare` does the work; this module reads the words and prints.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scgpt_infer.cli.options import model_option, names_of, names_option, path_type, words_of
from scgpt_infer.cli.progress import aloud

if TYPE_CHECKING:
    from scgpt_infer.compare import Compared, Comparison

__all__ = ["command", "report"]

LIMIT = 3000

_EXAMPLES = """\b
Examples:
  scgpt-infer compare --model human --cells labelled.h5ad --label cell_type
  scgpt-infer compare --model human --cells labelled.h5ad --label cell_type --precision bf16,int8 --json figures.json
"""


@click.command("compare", short_help="What each precision costs and gives on labelled cells.", epilog=_EXAMPLES)
@model_option
@click.option("--cells", type=path_type, required=True, help="A file of labelled cells.")
@click.option("--label", required=True, help="Column of obs with cell types; cells without one are left out.")
@click.option(
    "--batch", help="Column of obs: no cell of a batch may vote for another of it when labels are transferred."
)
@names_option
@click.option("--precision", default="", help="Which, separated by commas; fp32 runs in any case.  [default: all]")
@click.option("--provider", default="", help="Which, separated by commas.  [default: all that run here]")
@click.option("--threads", type=click.IntRange(min=1), help="Cores in all.  [default: those this process may use]")
@click.option(
    "--limit",
    type=click.IntRange(min=10),
    default=LIMIT,
    show_default=True,
    help="Most cells, spread evenly over the file.",
)
@click.option("--layer", help="Where the counts are: a layer's name, raw, or X.  [default: layers/counts, else X]")
@click.option("--json", "json_file", type=path_type, help="Write the figures there as well.")
def command(
    model: str,
    cells: Path,
    label: str,
    batch: str | None,
    names: Path | None,
    precision: str,
    provider: str,
    threads: int | None,
    limit: int,
    layer: str | None,
    json_file: Path | None,
) -> None:
    """Embed the same labelled cells in every precision, with every provider that runs here, and print one table.

    1 - cosine to fp32 (middle and worst cell); the share of each cell's nearest neighbours in fp32 that are kept;
    labels by the vote of nearest neighbours, cross-validated; the classifier's answers, where the model has one; and
    cells a second, taken in turns. Needs the [report] extra.
    """
    from scgpt_infer.compare import CompareOptions, compare
    from scgpt_infer.labelled import read
    from scgpt_infer.models import resolve

    options = CompareOptions(words_of(provider), words_of(precision), threads, names_of(names))
    bundle = resolve(model, say=aloud)
    found = compare(bundle, read(cells, label, limit, batch, layer), options, aloud)
    if json_file is not None:
        json_file.write_text(found.to_json() + "\n", encoding="utf-8")
    click.echo(report(found))


def report(found: "Comparison") -> str:
    """A comparison for people."""
    from scgpt_infer.judging import NEIGHBOURS

    classifier = any(row.classifier for row in found.rows)
    head = f"{'':<15} 1-cos mid  1-cos worst  neighbours  k-NN acc  macro-F1"
    head += f"{'  class acc  macro-F1' if classifier else ''}   cells/s"
    lines = [
        f"{found.model}: {found.cells:,} cells of {found.median_length:,} tokens (the middle one), against "
        f"{found.reference}; {NEIGHBOURS} neighbours; speed on {found.timed_cells:,} of the cells, in turns",
        "",
        head,
        *(_line(row, classifier) for row in found.rows),
    ]
    return "\n".join([*lines, *(f"\nnote: {note}" for note in found.notes)])


def _line(row: "Compared", classifier: bool) -> str:
    transfer, own = row.transfer, row.classifier
    words = (
        f"{row.provider + ' ' + row.precision:<15} {row.median:>9.1e}  {row.worst:>11.1e}  {row.neighbours:>10.3f}  "
        f"{transfer.accuracy:>8.3f}  {transfer.macro_f1:>8.3f}"
    )
    if classifier:
        words += "                     " if own is None else f"  {own.accuracy:>9.3f}  {own.macro_f1:>8.3f}"
    return f"{words}  {row.cells_per_second:>8.1f}"
