"""``scgpt-infer grn``: networks of genes, from the embeddings of genes or from attention in cells.

Reads the words and prints; `scgpt_infer.networks` does the work.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.options import (
    batch_options,
    cells_options,
    engine_options,
    json_option,
    model_option,
    names_of_batches,
    path_type,
    quiet_option,
    words_of,
)
from scgpt_infer.cli.progress import Progress, aloud
from scgpt_infer.cli.sections import INPUT, OUTPUT, option, sectioned
from scgpt_infer.options import EmbedOptions

if TYPE_CHECKING:
    from scgpt_infer.networks import AttentionOptions, EmbeddingNetworkOptions, NetworkSummary

__all__ = ["command"]

GENES_MISSING = 3

_EXAMPLES = """\b
Examples:
  From the embeddings of genes: which genes does the model hold for alike?
    scgpt-infer grn --model human -o network
    scgpt-infer grn cells.h5ad --model human --variable 2000 --by cell_type -o network
    scgpt-infer grn --model human --only STAT1,IRF1,ISG15,MX1 --threshold 0.4 -o net.graphml -o net.png
  From attention in cells: what is a gene attended with, and what changes between two conditions?
    scgpt-infer grn cells.h5ad --model human --condition stim --control ctrl --against IFN \\
                    --targets STAT1,IRF7 -o net.graphml -o net.csv
"""

_EMBEDDINGS = ("neighbours", "threshold", "resolution", "min_genes", "leiden_seed", "by")
_BATCHES = ("batch", "batch_map", "batch_fallback")
_ATTENTION = ("condition", "control", "against", "top", "compat", *_BATCHES)


@sectioned("grn", short_help="Networks of genes, from gene embeddings or from attention.", epilog=_EXAMPLES)
@click.argument("cells", type=path_type, required=False)
@model_option
@option(
    OUTPUT,
    "--output",
    "-o",
    "outputs",
    type=path_type,
    multiple=True,
    required=True,
    help="Where to write, may be repeated: .graphml, .csv (edges), .json, .gmt (metagenes), .png, .svg; or, without a "
    "suffix, a new folder for all of these, lists and scores.",
)
@click.option("--only", help="Genes that take part, with commas: symbols or Ensembl ids.  [default: all]")
@click.option("--genes-file", type=path_type, help="The same from a text file, one a line.")
@click.option(
    "--variable",
    type=click.IntRange(min=2),
    help="The N genes that vary most in CELLS take part.  [default: all genes; from attention 1200]",
)
@click.option("--neighbours", type=click.IntRange(min=1), help="Embeddings: nearest genes of each.  [default: 15]")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Embeddings: smallest cosine of an edge; without --neighbours all such pairs are edges.",
)
@click.option("--resolution", type=float, help="Embeddings: of Leiden; more gives smaller metagenes.  [default: 20]")
@click.option("--min-genes", type=click.IntRange(min=1), help="Embeddings: fewest genes of a metagene.  [default: 5]")
@click.option("--leiden-seed", type=click.IntRange(min=0), help="Embeddings: seed of Leiden.  [default: 0]")
@click.option("--by", help="Embeddings: column of obs of CELLS; metagenes are scored in each of its groups.")
@click.option("--targets", help="Attention: genes whose targets are wanted, such as TFs, with commas.")
@click.option("--targets-file", type=path_type, help="The same from a text file, one a line.")
@click.option("--condition", help="Attention: column of obs with the condition of each cell.")
@click.option("--control", help="Attention: its value in control cells; the difference to them is the weight.")
@click.option("--against", help="Attention: its value in the cells of interest.")
@click.option("--top", type=click.IntRange(min=1), help="Attention: targets of each gene.  [default: 20]")
@click.option(
    "--compat", is_flag=True, default=None, help="Attention: leave out the first cell of each condition, as scGPT does."
)
@option(INPUT, "--limit", type=click.IntRange(min=1), help="The first N cells only.")
@batch_options
@cells_options
@engine_options
@quiet_option
@json_option
def command(
    cells: Path | None,
    model: str,
    outputs: tuple[Path, ...],
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Find a network of genes: from the model's embeddings of genes, or from its attention in CELLS.

    From embeddings (no cells needed) edges join genes of like embedding, and Leiden finds metagenes. From attention
    (--condition or --targets) edges lead from a gene to those that attend to it most, or whose attention changes most
    between two conditions. A gene that was asked for and is not known is told: exit code 3. Needs the [networks] extra.
    """
    how = _asked(settings)
    options = EmbedOptions(**settings)  # the remaining options are fields of it, one to one
    summary = _run(outputs, model, cells, how, options, quiet)
    if as_json:
        click.echo(summary.to_json())
    elif not quiet:
        click.echo(summary.report())
    elif summary.unknown:
        click.echo(f"not known: {', '.join(summary.unknown)}", err=True)
    return 0 if summary.complete else GENES_MISSING


def _asked(settings: dict[str, Any]) -> "EmbeddingNetworkOptions | AttentionOptions":
    """Take the options of networks out of all options."""
    from scgpt_infer.integration import IntegrateOptions
    from scgpt_infer.networks import AttentionOptions, EmbeddingNetworkOptions

    given = {name: settings.pop(name) for name in (*_EMBEDDINGS, *_ATTENTION, "variable")}
    given = {name: value for name, value in given.items() if value is not None}
    only = _names(settings.pop("only"), settings.pop("genes_file"), "--only", "--genes-file")
    targets = _names(settings.pop("targets"), settings.pop("targets_file"), "--targets", "--targets-file")
    by_attention = bool(targets) or "condition" in given
    strange = [name for name in given if name in (_EMBEDDINGS if by_attention else _ATTENTION)]
    if strange:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise click.UsageError(
            f"{words}: not for networks from attention, which --condition and --targets ask for."
            if by_attention
            else f"{words}: for networks from attention alone. Ask for one with --condition COLUMN or --targets GENES."
        )
    if by_attention:
        found = {name: given.pop(name, None) for name in _BATCHES}
        batches = IntegrateOptions(found["batch"], names_of_batches(found["batch_map"]), found["batch_fallback"])
        return AttentionOptions(targets=targets, only=only, batches=batches, **given)
    return EmbeddingNetworkOptions(only=only, **given)


def _names(words: str | None, file: Path | None, option: str, file_option: str) -> tuple[str, ...]:
    from scgpt_infer.wanted import read_names

    if words is not None and file is not None:
        raise click.UsageError(f"{option} and {file_option} both say which genes: give one of them.")
    return words_of(words) if words is not None else read_names(file) if file is not None else ()


def _run(
    outputs: tuple[Path, ...],
    model: str,
    cells: Path | None,
    how: "EmbeddingNetworkOptions | AttentionOptions",
    options: EmbedOptions,
    quiet: bool,
) -> "NetworkSummary":
    from scgpt_infer.networks import grn_file

    if quiet:
        return grn_file(outputs, model, cells, how, options)
    if cells is None:
        return grn_file(outputs, model, None, how, options, say=aloud)
    with Progress("grn") as progress:
        return grn_file(outputs, model, cells, how, options, progress, say=aloud)
