"""How fast a graph answers on a GPU: golden cells cut to many lengths, batched as its dialect wants them.

In: a bundle, a choice on one GPU, its open graph. Out: cells a second. It compares nothing.
"""

import time
from collections.abc import Sequence

import numpy as np

from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.batching import batches, plan_for
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch, TokenBlock
from scgpt_runtime.instances import Instances
from scgpt_runtime.proof import golden_tokens
from scgpt_runtime.providers import ProviderChoice

__all__ = ["cells_per_second", "ragged"]

_CELLS = 128
_SHORTEST = 0.3
"""Lengths run evenly from this share of the longest golden cell up to all of it."""

_SECONDS = 0.25
_ROUNDS = 3


def ragged(tokens: TokenBlock, n_cells: int = _CELLS) -> TokenBlock:
    """Cells of many lengths: the first tokens of cells that are long enough, in turn.

    Parameters
    ----------
    tokens
        Cells to cut, at least one of them with tokens.
    n_cells
        How many to make.
    """
    there = np.diff(tokens.offsets)
    lengths = np.linspace(_SHORTEST * there.max(), there.max(), n_cells).astype(np.int64).clip(1)
    order = np.argsort(-there, kind="stable")
    enough = np.searchsorted(-there[order], -lengths, side="right")  # (n_cells,) how many are as long as that
    starts = tokens.offsets[order[np.arange(n_cells) % enough]]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    taken = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return TokenBlock(tokens.ids[taken], tokens.values[taken], offsets, np.zeros(n_cells, np.uint8), 0)


def cells_per_second(bundle: Bundle, choice: ProviderChoice, runner: GraphRunner) -> float:
    """Best of a few rounds over the same cells.

    Raises
    ------
    ProviderError, InternalError
        The graph does not run to the end.
    """
    settings = bundle.manifest.tokenizer
    made = batches(ragged(golden_tokens(bundle.golden())), settings, plan_for(choice, settings))
    with Instances[None](runner.run, choice.instances) as instances:
        # Whatever is made ready for a shape is made by each instance for itself: each meets each shape, twice.
        _pass(instances, [batch for batch in made for _ in range(2 * choice.instances)])
        seconds = _pass(instances, made)
        passes = int(np.clip(_SECONDS / seconds, 1, 64))
        seconds = min(_pass(instances, made * passes) for _ in range(_ROUNDS))
    return passes * sum(len(batch.cells) for batch in made) / seconds


def _pass(instances: Instances[None], made: Sequence[AnyBatch]) -> float:
    """Seconds until all batches are answered."""
    start = time.perf_counter()
    for _ in instances.answers((None, batch) for batch in made):
        pass
    return max(time.perf_counter() - start, 1e-6)
