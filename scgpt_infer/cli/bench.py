"""``scgpt-infer bench``: what this machine does with a bundle.

`scgpt_infer.bench` measures; this module reads the words, prints and writes files.
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.options import path_type
from scgpt_infer.cli.progress import aloud
from scgpt_infer.options import CHOICES

if TYPE_CHECKING:
    from scgpt_infer.bench.result import BenchResult

__all__ = ["command"]

NOTHING_RAN = 2
SOME_DID_NOT_RUN = 3

_EXAMPLES = """\b
Examples:
  scgpt-infer bench --model human
  scgpt-infer bench --model human --cells pbmc.h5ad --html bench.html --price 0.40
  scgpt-infer bench --model human --precision bf16,int8 --lengths 1200 --json a.json
  scgpt-infer bench --compare a.json b.json
"""


_Words = Callable[[click.Context, click.Parameter, str | None], tuple[str, ...] | None]


def _words_of(allowed: tuple[str, ...]) -> _Words:
    """Reads allowed words between commas; ``auto`` among them stands for all."""

    def read(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
        words = _split(value)
        for word in words:
            if word not in allowed:
                raise click.BadParameter(f"{word!r} is none of {', '.join(allowed)}.")
        return None if "auto" in words else words or None

    return read


def _lengths(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Reads numbers between commas."""
    words = _split(value)
    if not all(word.isdecimal() for word in words):
        raise click.BadParameter(f"{value!r} is no list of whole numbers such as 64,1200.")
    return tuple(map(int, words)) or None


def _split(value: str | None) -> tuple[str, ...]:
    return () if value is None else tuple(dict.fromkeys(word.strip() for word in value.split(",")))


@click.command("bench", short_help="What this machine does with a bundle.", epilog=_EXAMPLES)
@click.option(
    "--model",
    "-m",
    envvar="SCGPT_INFER_MODEL",
    show_envvar=True,
    help="A bundle (folder or zip), a checkpoint (folder or zip, exported once into the cache), or demo.",
)
@click.option(
    "--provider",
    "providers",
    callback=_words_of(CHOICES["provider"]),
    metavar="A,B",
    help="What runs the model.  [default: all that can, auto's choice first]",
)
@click.option(
    "--precision",
    "precisions",
    callback=_words_of(CHOICES["precision"]),
    metavar="A,B",
    help="Precisions.  [default: all that can]",
)
@click.option(
    "--lengths",
    callback=_lengths,
    metavar="N,M",
    help="Lengths of cells in tokens.  [default: 64,256,600,1200, up to the model's longest]",
)
@click.option("--cells", type=path_type, help="Measure with the cells of this file too.")
@click.option("--sample", type=click.IntRange(min=1), default=64, show_default=True, help="How many of them.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="All combinations, N times.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Of each measurement, about.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random cells and sample.")
@click.option("--threads", type=click.IntRange(min=1), help="Cores in all.  [default: those this process may use]")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Tokens in a batch.  [default: by provider]")
@click.option("--price", type=click.FloatRange(min=0), help="Of this machine an hour; gives a million cells a cost.")
@click.option("--json", "json_to", type=path_type, help="Write the result as JSON; - is standard output.")
@click.option("--html", "html_to", type=path_type, help="Write a page with charts that stands alone.")
@click.option(
    "--compare",
    "pair",
    nargs=2,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="A.json B.json",
    help="Ratios of two results.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress; the result alone.")
def command(
    model: str | None,
    json_to: Path | None,
    html_to: Path | None,
    pair: tuple[Path, Path] | None,
    quiet: bool,
    **settings: Any,
) -> int:
    """Measure speed, latency, memory, start-up and accuracy of a bundle on this machine.

    For every combination of provider and precision: cells, tokens and operations per second with their share of the
    fastest matrix products reached in the same run, the latency of one cell alone, memory, start-up, energy where
    the machine shows it, and the distance to the bundle's fp32 reference. Each combination runs in a process of its
    own; leave the machine alone meanwhile. Exit code 3 when a combination that was asked for did not run.
    """
    if pair is not None:
        return _compare(pair, json_to)
    if model is None:
        raise click.UsageError("Nothing to measure: give --model, or --compare with two results.")
    from scgpt_infer.bench import measure

    for path in (json_to, html_to):
        if path is not None and not path.absolute().parent.is_dir():
            raise click.UsageError(f"There is no folder {path.absolute().parent} to write {path.name} into.")
    options = measure.BenchOptions(**settings)  # its fields, one to one
    said = shlex.join(["scgpt-infer", *sys.argv[1:]])
    result = measure.measure(model, options, say=(lambda line: None) if quiet else aloud, command=said)
    _write(result, json_to, html_to)
    failed = [found.error for found in result.combinations if found.error is not None]
    if len(failed) == len(result.combinations):
        return NOTHING_RAN
    return SOME_DID_NOT_RUN if failed else 0


def _write(result: "BenchResult", json_to: Path | None, html_to: Path | None) -> None:
    from scgpt_infer.bench.page import page
    from scgpt_infer.bench.table import text

    if html_to is not None:
        html_to.write_text(page(result), encoding="utf-8")
    if json_to == Path("-"):
        click.echo(result.to_json())
        return
    if json_to is not None:
        json_to.write_text(result.to_json() + "\n", encoding="utf-8")
    click.echo(text(result))


def _compare(pair: tuple[Path, Path], json_to: Path | None) -> int:
    from scgpt_infer.bench.compare import compare, load

    found = compare(*map(load, pair))
    if json_to == Path("-"):
        click.echo(found.to_json())
        return 0
    if json_to is not None:
        json_to.write_text(found.to_json() + "\n", encoding="utf-8")
    click.echo(found.text())
    return 0
