"""``scgpt-infer demo``: the bundled model on the bundled real cells.

`scgpt_infer.showcase` does the work; this module prints.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scgpt_infer.cli.options import json_option, path_type
from scgpt_infer.cli.progress import aloud

if TYPE_CHECKING:
    from scgpt_infer.showcase import Showing

__all__ = ["command", "report"]


@click.command("demo", short_help="Try it: bundled model, bundled real cells.")
@click.option(
    "--picture",
    type=path_type,
    default=Path("scgpt-infer-demo.png"),
    show_default=True,
    help="Where to write a UMAP; needs the [report] extra, and is left out without.",
)
@json_option
def command(picture: Path, as_json: bool) -> None:
    """Embed and annotate the cells that ship with scgpt-infer, with the small model that ships with it.

    Needs no download. The model shows what the software does; it is no model for research.
    """
    from scgpt_infer import showcase

    showing = showcase.show()
    drawn = showcase.can_draw()
    if drawn:
        aloud("drawing the picture (the first time umap compiles itself, which takes a minute)")
        showcase.draw(showing, picture)
    if as_json:
        click.echo(json.dumps(showing.plain() | {"picture": str(picture) if drawn else None}, indent=2))
    else:
        click.echo(report(showing))
        click.echo(f"\npicture     {picture}" if drawn else '\npicture     none: pip install "scgpt-infer[report]"')


def report(showing: "Showing") -> str:
    """The showing for people."""
    from scgpt_infer import demo
    from scgpt_infer.showcase import NEIGHBOURS

    n_cells, dim = showing.vectors.shape
    lines = [
        f"{n_cells} real blood cells, embedded and annotated in {showing.seconds:.1f} s",
        f"ran on      {showing.ran_on}",
        f"embedding   {dim} wide, vector id {showing.vector_id}",
        f"accuracy    {showing.accuracy:.3f} of the answers agree with the published label",
        f"macro F1    {showing.macro_f1:.3f}",
        f"neighbours  {showing.neighbour_accuracy:.3f} of the cells lie among their own type "
        f"(vote of {NEIGHBOURS} in the embedding)",
        "",
        f"{'type':<16} cells answered     F1",
    ]
    for name, figures in showing.types.items():
        lines.append(f"{name:<16} {figures.cells:>5} {figures.answered:>8}  {figures.f1:.3f}")
    lines += ["", *_judged(), "", f"model card  {demo.MODEL_CARD}"]
    return "\n".join(lines)


def _judged() -> list[str]:
    """The table of what was measured when the model was built."""
    from scgpt_infer.showcase import judged, verdict

    figures = judged()

    lines = [
        "Measured when the model was built, on cells that its training never saw; neighbours beside those of PCA:",
        f"{'data':<24} cells accuracy macro F1   within (PCA)    across (PCA)",
    ]
    lines += [
        f"{found.name:<24} {found.cells:>5}    {found.accuracy:.3f}    {found.macro_f1:.3f}   "
        f"{found.within:.3f} ({found.within_pca:.3f})   {found.across:.3f} ({found.across_pca:.3f})"
        for found in figures
    ]
    return [*lines, verdict(figures)]
