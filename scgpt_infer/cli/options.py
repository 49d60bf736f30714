"""Options that several commands share, each written once.

Their names and defaults are those of the fields of `scgpt_infer.options.EmbedOptions`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from scgpt_infer.cli.sections import HARDWARE, INPUT, LONG_JOBS, OUTPUT, TOKENS, option
from scgpt_infer.options import CHOICES, MIN_MATCH
from scgpt_infer.sizes import bytes_of
from scgpt_infer.spans import Shard
from scgpt_runtime.errors import OptionError

__all__ = [
    "batch_options",
    "cells_options",
    "device_option",
    "engine_options",
    "json_option",
    "matrix_options",
    "model_option",
    "names_of",
    "names_of_batches",
    "names_option",
    "nowhere",
    "path_type",
    "quiet_option",
    "resume_option",
    "served_options",
    "several_options",
    "sharing_options",
    "wanted_options",
    "words_of",
    "work_options",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

path_type = click.Path(path_type=Path)

model_option = option(
    INPUT,
    "--model",
    "-m",
    required=True,
    envvar="SCGPT_INFER_MODEL",
    show_envvar=True,
    help="A bundle (folder or zip), a checkpoint (folder or zip, exported once into the cache), or demo.",
)
quiet_option = option(OUTPUT, "--quiet", "-q", is_flag=True, help="No progress and no summary; only what went wrong.")
json_option = option(OUTPUT, "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")

names_option = click.option(
    "--names",
    type=path_type,
    help="JSON: true label to the model's label, or labels, that are right for it, where they differ.",
)

device_option = option(
    HARDWARE, "--device", default="auto", show_default=True, help="GPUs: auto (one), all, or numbers such as 0 or 0,1."
)


def _pair(context: click.Context, parameter: click.Parameter, told: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for words in told:
        column, sign, value = words.partition("=")
        if not (column and sign):
            raise click.BadParameter(f"{words!r} is not COLUMN=VALUE, such as batch=3.")
        pairs.append((column, value))
    return tuple(pairs)


_WANTED = (
    option(
        INPUT, "--ignore", multiple=True, metavar="LABEL", help="Leave the cells of this label out; may be repeated."
    ),
    option(
        INPUT,
        "--exclude",
        multiple=True,
        metavar="COLUMN=VALUE",
        callback=_pair,
        help="Leave the cells with this value in a column of obs out; may be repeated.",
    ),
)

_ENGINE = (
    option(
        HARDWARE,
        "--provider",
        type=click.Choice(CHOICES["provider"]),
        default="auto",
        show_default=True,
        help="What runs the model.",
    ),
    option(
        HARDWARE,
        "--precision",
        type=click.Choice(CHOICES["precision"]),
        default="auto",
        show_default=True,
        help="Of the bundle, or bf16 with openvino; part of the vector id.",
    ),
    device_option,
    option(
        HARDWARE,
        "--threads",
        type=click.IntRange(min=1),
        help="Cores in all.  [default: those this process may use]",
    ),
    option(
        HARDWARE,
        "--instances",
        type=click.IntRange(min=1),
        help="Batches answered at a time.  [default: as many as pays here]",
    ),
    option(
        HARDWARE,
        "--batch-tokens",
        type=click.IntRange(min=1),
        help="Tokens in a batch, padding counted.  [default: by provider]",
    ),
)

_LAYER = (
    option(INPUT, "--layer", help="Where the counts are: a layer's name, raw, or X.  [default: layers/counts, else X]"),
)

_WHICH = (
    option(INPUT, "--modality", help="Of a file that holds several, the one to read.  [default: that of RNA]"),
    option(
        INPUT,
        "--cells-in",
        type=click.Choice(CHOICES["cells_in"]),
        help="Whether the rows or the columns of a table are cells.  [default: recognised]",
    ),
)

_QUERY = (
    option(
        INPUT, "--where", metavar="FILTER", help="Of a SOMA experiment, the cells, such as \"cell_type == 'B cell'\"."
    ),
    option(INPUT, "--organism", help="Of the CELLxGENE Census, the experiment.  [default: homo_sapiens]"),
)

_GENES = option(
    INPUT,
    "--genes",
    type=click.Choice(CHOICES["genes"]),
    default="exact",
    show_default=True,
    help="alias: also previous and alias symbols that exactly one gene answers to.",
)

_NAMED = (
    option(INPUT, "--gene-col", help="Column of var with gene names or Ensembl ids.  [default: the best match]"),
    _GENES,
    option(
        INPUT,
        "--min-match",
        type=click.FloatRange(0, 1),
        default=MIN_MATCH,
        show_default=True,
        help="Smallest share of genes that the model must know.",
    ),
)

_MATRIX = _LAYER + _WHICH + _QUERY + _NAMED

_BATCHES = (
    option(INPUT, "--batch", help="Column of obs with the batch of each cell."),
    option(INPUT, "--batch-map", type=path_type, help='JSON: {"batch in the column": "batch of the model"}.'),
    option(
        INPUT,
        "--batch-fallback",
        metavar="NAME",
        help="Batch of the model that cells of unknown batches are taken for.  [default: they are an error]",
    ),
)


def _shard(context: click.Context, parameter: click.Parameter, told: str | None) -> Shard | None:
    return None if told is None else Shard.parse(told)


def _memory(context: click.Context, parameter: click.Parameter, told: str | None) -> int | None:
    return None if told is None else bytes_of(told)


_RESUME = (
    option(
        LONG_JOBS,
        "--resume/--no-resume",
        default=True,
        help="Go on with what an interrupted run of the same job has kept, or begin anew.  [default: --resume]",
    ),
)

_SHARING = (
    option(
        LONG_JOBS,
        "--workers",
        type=click.IntRange(min=1),
        help="Processes that share the work, and the cores or GPUs.  [default: one; with --device all one a device]",
    ),
    option(
        LONG_JOBS,
        "--ray",
        is_flag=False,
        flag_value="auto",
        metavar="[ADDRESS]",
        help="Share the work on a Ray cluster: that of RAY_ADDRESS or this machine, or --ray=ADDRESS. Comes last.",
    ),
)

_WORK = (
    option(
        LONG_JOBS,
        "--shard",
        metavar="I/N",
        callback=_shard,
        help="Do one of N shares, 0/N to N-1/N, and keep its parts for `scgpt-infer merge`.",
    ),
    *_RESUME,
    option(
        LONG_JOBS,
        "--memory",
        metavar="SIZE",
        callback=_memory,
        help="Most memory of all processes together, such as 8GiB; the least that works is said.",
    ),
    *_SHARING,
    option(INPUT, "--strict", is_flag=True, help="A file of several that cannot be read ends the job."),
)

_TOKENS = (
    option(TOKENS, "--max-length", type=click.IntRange(min=2), help="Most tokens of a cell.  [default: the bundle's]"),
    option(
        TOKENS,
        "--seed",
        type=click.IntRange(min=0),
        help="Seed of ties and down-sampling.  [default: the bundle's]",
    ),
    option(
        TOKENS,
        "--ties",
        type=click.Choice(CHOICES["ties"]),
        help="A value on several equal bin edges draws its bin, or takes the highest.  [default: the bundle's]",
    ),
    option(
        TOKENS,
        "--sample",
        type=click.Choice(CHOICES["sample"]),
        help="A cell that is too long keeps tokens drawn by hash, or the highest.  [default: the bundle's]",
    ),
)


def engine_options(command: Decorated) -> Decorated:
    """Provider, precision, device, threads and batch size."""
    return _apply(_ENGINE, command)


def cells_options(command: Decorated) -> Decorated:
    """Where the counts and gene names are, and how a cell becomes tokens."""
    return _apply(_MATRIX + _TOKENS, command)


def matrix_options(command: Decorated) -> Decorated:
    """Where the counts and gene names are, for a command that decides itself how a cell becomes tokens."""
    return _apply(_MATRIX, command)


def several_options(command: Decorated) -> Decorated:
    """Where the counts and names of several modalities are, and how a cell becomes tokens."""
    return _apply(_LAYER + _NAMED + _TOKENS, command)


def served_options(command: Decorated) -> Decorated:
    """How genes are found and a cell becomes tokens, for a command whose cells come without a file."""
    return _apply((_GENES, *_TOKENS), command)


def batch_options(command: Decorated) -> Decorated:
    """Where the batch of each cell stands, and what unknown batches are taken for."""
    return _apply(_BATCHES, command)


def work_options(command: Decorated) -> Decorated:
    """How the work is done: the fields of `scgpt_infer.work.WorkOptions`."""
    return _apply(_WORK, command)


def sharing_options(command: Decorated) -> Decorated:
    """Who shares the work."""
    return _apply(_SHARING, command)


def resume_option(command: Decorated) -> Decorated:
    """Whether an interrupted job is gone on with."""
    return _apply(_RESUME, command)


def wanted_options(command: Decorated) -> Decorated:
    """Which labelled cells are left out."""
    return _apply(_WANTED, command)


def nowhere(*never: str) -> click.UsageError:
    """What is said where no output was named.

    Parameters
    ----------
    never
        Suffixes of formats that cannot hold the result.
    """
    from scgpt_infer.writers import WRITERS  # --help is instant without them

    *formats, last = (suffix for suffix in sorted(WRITERS) if suffix not in never)
    return click.UsageError(f"Nowhere to write: give -o OUTPUT ({', '.join(formats)} or {last}), or --in-place.")


def words_of(text: str) -> tuple[str, ...]:
    """The words of a list that is separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def names_of_batches(path: Path | None) -> dict[str, str]:
    """Batch in the column to batch of the model, from JSON.

    Raises
    ------
    OptionError
        The file cannot be read as that.
    """
    if path is None:
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read as JSON of batches and what they are called: {error}.") from error
    if not isinstance(told, dict):
        raise OptionError(f'{path} should read like {{"my batch": "the model\'s batch"}}.')
    return told


def names_of(path: Path | None) -> dict[str, tuple[str, ...]]:
    """True label to the labels that are right for it, from JSON in which a single one may stand alone.

    Raises
    ------
    OptionError
        The file cannot be read as that.
    """
    if path is None:
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        pairs = {name: (found,) if isinstance(found, str) else tuple(found) for name, found in told.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise OptionError(f"{path} cannot be read as JSON of labels and what they are called here: {error}.") from error
    if not all(isinstance(word, str) for words in pairs.values() for word in words):
        raise OptionError(f'{path} should read like {{"label": ["name", "name"]}}; every name is a text.')
    return pairs


def _apply(decorators: tuple[Callable[[Decorated], Decorated], ...], command: Decorated) -> Decorated:
    for decorator in reversed(decorators):
        command = decorator(command)
    return command
