"""``scgpt-infer learn``: labelled cells in, a bundle with a classifier of their types out.

Reads the words and prints; `scgpt_infer.learning` does the work.
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
    path_type,
    quiet_option,
    wanted_options,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import INPUT, OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions

if TYPE_CHECKING:
    from scgpt_infer.learning import Learned, LearnOptions

__all__ = ["command"]

_EXAMPLES = """\b
Examples:
  scgpt-infer learn reference.h5ad --label cell_type --by donor --model human -o taught
  scgpt-infer learn pbmc.h5ad --label cell_type --by batch --ignore doublet --exclude batch=GSE115189 \\
                    --model demo -o taught
  scgpt-infer annotate query.h5ad --model taught -o types.h5ad
"""


@sectioned("learn", short_help="Labelled cells teach a model their types.", epilog=_EXAMPLES)
@click.argument("cells", type=path_type)
@click.option("--label", required=True, help="Column of obs with the types; cells without one are left out.")
@model_option
@option(
    OUTPUT,
    "--output",
    "-o",
    type=path_type,
    required=True,
    help="The bundle to make: a folder, or a zip if it ends in .zip.",
)
@click.option("--by", help="Column of obs, such as the donor: no two folds share one of its values.")
@wanted_options
@click.option(
    "--c", type=float, help="Inverse strength of the regularisation.  [default: the one of least held-out log loss]"
)
@click.option("--balanced", is_flag=True, help="Let each class count the same, however many cells it has.")
@click.option("--min-cells", type=click.IntRange(min=2), help="Leave out classes of fewer cells.  [default: 5]")
@click.option(
    "--max-cells-per-class", type=click.IntRange(min=2), help="Take at most so many of a class.  [default: 2000]"
)
@option(INPUT, "--limit", type=click.IntRange(min=1), help="Look at the first N cells only.")
@option(INPUT, "--key", help="Name under obsm of vectors that lie with the cells.  [default: the model's]")
@click.option("--recompute", is_flag=True, help="Run the model even if its vectors lie with the cells already.")
@cells_options
@engine_options
@quiet_option
@json_option
def command(cells: Path, label: str, model: str, output: Path, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Teach a model the types of the labelled cells of CELLS, and seal it as a bundle that annotates.

    A regularised logistic regression on the model's embeddings, without a GPU and without PyTorch. It is judged by
    cross-validation, and the bundle keeps the figures (scgpt-infer inspect). The model itself is not changed: its
    vectors and their id stay what they are. Needs the [annotate] extra.
    """
    from scgpt_infer.learning import LearnOptions

    ours = {field.name for field in fields(LearnOptions)}
    given = {name: value for name, value in settings.items() if value is not None}
    how = LearnOptions(**{name: value for name, value in given.items() if name in ours})
    options = EmbedOptions(**{name: value for name, value in given.items() if name not in ours})
    found = _learn(cells, label, output, model, options, how, quiet)
    if as_json:
        click.echo(found.to_json())
    elif not quiet:
        click.echo(found.report())


def _learn(
    cells: Path, label: str, output: Path, model: str, options: EmbedOptions, how: "LearnOptions", quiet: bool
) -> "Learned":
    from scgpt_infer.learning import learn

    if quiet:
        return learn(cells, label, output, model=model, options=options, how=how)
    with Progress("embed") as progress:
        return learn(cells, label, output, model=model, options=options, how=how, progress=progress, say=aloud)
