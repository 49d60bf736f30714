"""The best graph that opens: choices in order, measured where that pays, each proven before it is used.

In: a bundle, a task and what was asked for. Out: the choice that runs, with its open graph.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scgpt_runtime.answering import GraphRunner, Lent
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.choosing import Asked, candidates
from scgpt_runtime.errors import InternalError, MissingDependencyError, ProviderError
from scgpt_runtime.machine import free_memory
from scgpt_runtime.manifest import Manifest
from scgpt_runtime.profiles import MEASURE
from scgpt_runtime.proof import prove
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.runners import graph_for, open_graph
from scgpt_runtime.trial import fastest_first

__all__ = ["cell_bytes", "open_best", "within_memory"]

_COPIES = 3
"""A graph's weights as they are, as the provider packs them, and as it holds them while packing."""

_BUFFERS = 16
"""Buffers of one token's width that a layer's products need at once, generously."""

_WIDE, _INNER, _BESIDE = 8, 3, 64
"""Floats of a token that ``perturb`` needs at once: so many times the width, so many times the feed-forward width, and
some. The most that was measured at widths of 64 to 512 with either library is 12 to 17 % less."""

_log = logging.getLogger(__name__)


def cell_bytes(manifest: Manifest, task: str, n_tokens: int) -> int:
    """Bytes that a cell takes while it is answered on a processor, generously; the weights are not in it.

    Parameters
    ----------
    manifest
        Tells widths and heads.
    task
        A task whose graph takes tokens. Those of ``perturb`` need memory for each token, those of the others for each
        pair of them, too.
    n_tokens
        Tokens of the cell.
    """
    dim, args = manifest.dim, manifest.args
    if task == "perturb":
        return 4 * n_tokens * (_WIDE * dim + _INNER * int(args.get("d_hid", dim)) + _BESIDE)
    return 4 * n_tokens * (_BUFFERS * dim + 2 * int(args.get("nheads", 8)) * n_tokens)


def open_best(
    bundle: Bundle,
    asked: Asked,
    task: str,
    cache_dir: Path | None,
    longest: int,
    say: Callable[[str], None] = _log.info,
) -> tuple[ProviderChoice, GraphRunner]:
    """Open what runs a task fastest here and answers rightly; of a bundle that keeps things open, lend what is.

    Parameters
    ----------
    bundle
        An opened bundle.
    asked
        What the user wants.
    task
        The task.
    cache_dir
        Where measurements and proofs are remembered.
    longest
        Most tokens of a batch, which decides what an instance needs.
    say
        Told when a measurement begins.

    Raises
    ------
    OptionError, ProviderError, BundleError, MissingDependencyError
        Nothing that was asked for can be had here.
    """
    if bundle.kept is None:
        return _opened(bundle, asked, task, cache_dir, longest, say)
    usual = bundle.manifest.tokenizer.max_length  # so that it does not matter who asks first
    choice, runner = bundle.kept.of(
        ("graph", task, asked, cache_dir),
        lambda: _opened(bundle, asked, task, cache_dir, usual, say),
        lambda held: held[1].close(),
    )
    return within_memory(bundle, task, choice, longest), Lent(runner)


def _opened(
    bundle: Bundle, asked: Asked, task: str, cache_dir: Path | None, longest: int, say: Callable[[str], None]
) -> tuple[ProviderChoice, GraphRunner]:
    ranked = fastest_first(bundle, candidates(bundle.manifest, asked, task), asked, task, cache_dir, say=say)
    ranked = tuple(within_memory(bundle, task, choice, longest) for choice in ranked)
    for choice in ranked[:-1]:
        try:
            return _open_one(bundle, choice, task, cache_dir)
        except (ProviderError, MissingDependencyError, InternalError) as error:
            _log.warning("%s does not run here, the next best is taken: %s", choice.name, error)
    return _open_one(bundle, ranked[-1], task, cache_dir)


def within_memory(
    bundle: Bundle, task: str, choice: ProviderChoice, longest: int, free: int | None = None
) -> ProviderChoice:
    """The same choice with no more instances than the memory that is left can hold. On a GPU nothing is taken away: its
    memory is not the machine's, and a batch that does not fit there is halved while it runs.

    Parameters
    ----------
    bundle
        Tells sizes: weights, width, heads.
    task
        The task.
    choice
        What is wanted.
    longest
        Most tokens of a batch.
    free
        Bytes that may still be taken; None: what the machine says.
    """
    if choice.devices or choice.instances == 1:
        return choice
    free = free_memory() if free is None else free
    if free is None:
        return choice
    manifest = bundle.manifest
    folder = graph_for(bundle, task, choice).path.rpartition("/")[0]
    weights = max((record.size for record in manifest.files if record.path.startswith(f"{folder}/")), default=0)
    fit = max(1, (free - _COPIES * weights) // cell_bytes(manifest, task, longest))
    if fit >= choice.instances:
        return choice
    told = f"{fit} instances instead of {choice.instances}, since {free / 2**30:.1f} GiB of memory are free"
    _log.warning("%s %s runs in %s.", choice.provider, choice.precision, told)
    why = f"{choice.why}; {told}"
    return replace(choice, instances=fit, threads=choice.instances * choice.threads // fit, why=why)


def _open_one(
    bundle: Bundle, choice: ProviderChoice, task: str, cache_dir: Path | None
) -> tuple[ProviderChoice, GraphRunner]:
    runner = open_graph(bundle, task, choice, cache_dir)
    try:
        worst = prove(bundle, choice, runner, task, cache_dir)
    except BaseException:
        runner.close()
        raise
    if worst is None:
        return choice, runner
    measure = MEASURE if task == "perturb" else "1 - cosine"
    return replace(choice, why=f"{choice.why}; proven on golden cells ({measure} at most {worst:.1e})"), runner
