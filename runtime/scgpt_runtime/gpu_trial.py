"""How fast a graph answers on a GPU: golden cells cut to many lengths, batched as its dialect wants them.

In: a bundle, a choice on one GPU, its open graph. Out: cells a second. It compares nothing.
"""

import itertools
import time
from collections.abc import Sequence
from statistics import median

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
_WARMING = 4
"""Blocks of cells before any that counts: by then the shapes that recur have been seen."""


def ragged(tokens: TokenBlock, n_cells: int = _CELLS, seed: int = 0) -> TokenBlock:
    """Cells of many lengths: the first tokens of cells that are long enough.

    Parameters
    ----------
    tokens
        Cells to cut, at least one of them with tokens.
    n_cells
        How many to make.
    seed
        Which lengths, each with its equal share of the range, and which cells.
    """
    random = np.random.default_rng(seed)
    there = np.diff(tokens.offsets)
    shares = (np.arange(n_cells) + random.random(n_cells)) / n_cells  # (n_cells,) one in each n-th part of 0 to 1
    longest = int(there.max())
    lengths = np.rint(longest * (_SHORTEST + (1 - _SHORTEST) * shares)).astype(np.int64).clip(1, longest)
    order = np.argsort(-there, kind="stable")
    enough = np.searchsorted(-there[order], -lengths, side="right")  # (n_cells,) how many are as long as that
    drawn = order[random.integers(0, enough)]
    starts = tokens.offsets[drawn]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    taken = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    labels = None if tokens.labels is None else tokens.labels[drawn]
    flags = None if tokens.flags is None else tokens.flags[taken]
    return TokenBlock(tokens.ids[taken], tokens.values[taken], offsets, np.zeros(n_cells, np.uint8), 0, labels, flags)


def cells_per_second(bundle: Bundle, choice: ProviderChoice, runner: GraphRunner) -> float:
    """Middle of a few rounds, each over cells that no round before had.

    The next cells of a job are others, too. A route whose batches have few shapes finds them all made ready by then.
    One whose shapes recur seldom, such as ``cuda-exact``, pays for each new one in the job, so it has to pay here. For
    the same reason it is not the best round that counts: shapes of the first are known in the last.

    Raises
    ------
    ProviderError, InternalError
        The graph does not run to the end.
    """
    settings = bundle.manifest.tokenizer
    golden, seeds = golden_tokens(bundle.golden(), len(bundle.manifest.batches)), itertools.count()
    plan = plan_for(choice, settings, masked=golden.flags is None)

    def others(blocks: int) -> list[AnyBatch]:
        """Batches of so many blocks of cells that were not there before, for every choice the same in turn."""
        cut = (ragged(golden, seed=seed) for seed in itertools.islice(seeds, blocks))
        return [batch for block in cut for batch in batches(block, settings, plan)]

    with Instances[None](runner.run, choice.instances) as instances:
        # Whatever is made ready for a shape is made by each instance for itself: each meets each shape, twice.
        _pass(instances, [batch for batch in others(_WARMING) for _ in range(2 * choice.instances)])
        blocks = int(np.clip(_SECONDS / _pass(instances, others(1)), 1, 64))
        rounds = [others(blocks) for _ in range(_ROUNDS)]
        return blocks * _CELLS / median(_pass(instances, made) for made in rounds)


def _pass(instances: Instances[None], made: Sequence[AnyBatch]) -> float:
    """Seconds until all batches are answered."""
    start = time.perf_counter()
    for _ in instances.answers((None, batch) for batch in made):
        pass
    return max(time.perf_counter() - start, 1e-6)
