"""What a job adds to the memory that is held: `of_engine`, `of_cells`, `in_flight`.

In: an open engine, an open source. Out: bytes. What the model takes is measured with batches as long as they may come;
what reading takes the source says, or a sample of its rows. It decides nothing.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from scgpt_infer.memory.measure import resident_bytes, trim
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.room import weight_of
from scgpt_runtime.cells import CellBlock, TokenBlock
from scgpt_runtime.engine import Engine
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.ranges import RANGE_ROWS

__all__ = ["Workspace", "in_flight", "of_cells", "of_engine", "widest"]

_LOOK_S = 0.002
_SAMPLED = 200
# Bytes of a token while a block is made of it, and copies of a block of tokens from there to the last batch: two in the
# queue, one before it, two at work, and the batches of those.
_MADE_BYTES, _COPIES = 16, 7
# Copies of a range's vectors between the model and the disk.
_VECTORS = 8
_FRACTIONS = (0.75, 0.5, 0.25)


@dataclass(frozen=True, slots=True)
class Workspace:
    """What an instance of the model takes beside the weights.

    Attributes
    ----------
    each
        Bytes at the most.
    kept
        Bytes that the first instance has kept of that, so that they are held already.
    """

    each: int
    kept: int


def of_engine(engine: Engine) -> Workspace:
    """Measure what an instance takes for its longest batch. The model is warm afterwards."""
    settings, n_known = engine.settings, len(engine.vocabulary)
    _tokenise_once(engine)
    trim()
    start = resident_bytes()
    with _peak() as first:
        _answer(engine, settings.max_length, n_known)
    with _peak() as second:
        _answer(engine, settings.max_length, n_known, at_once=min(2, engine.choice.instances))
    before = resident_bytes()
    for fraction in _FRACTIONS:
        _answer(engine, max(2, int(settings.max_length * fraction)), n_known)
    seen = max(0, resident_bytes() - before)
    # Where lengths are rounded, that is because something is kept for each.
    lengths = settings.max_length // engine.length_step if engine.length_step > 1 else 0
    # The first instance may be warm since the engine was opened.
    return Workspace(max(first.most, second.most) + seen * lengths // len(_FRACTIONS), max(0, resident_bytes() - start))


def of_cells(source: CellSource, widest: int) -> int:
    """Bytes that come up while a range of rows is read, the rows themselves among them."""
    return weight_of(source, min(RANGE_ROWS, source.n_cells), widest)


def widest(source: CellSource) -> int:
    """Most values of a row, of some that are spread over the cells."""
    return int(np.diff(source.sample(_SAMPLED).indptr).max(initial=0))


def in_flight(settings: TokenizerSettings, dim: int, widest: int) -> int:
    """Bytes of the tokens and vectors of the ranges that are between the reader and the disk."""
    length = settings.max_length if settings.include_zeros else min(settings.max_length, widest + 1)
    token = 3 if settings.value_style == "binned" else 6
    return RANGE_ROWS * (length * (_MADE_BYTES + _COPIES * token) + _VECTORS * 4 * dim)


def _answer(engine: Engine, length: int, n_known: int, at_once: int = 1) -> None:
    """Let instances answer a batch of cells of a length each."""
    n_cells = max(1, engine.batch_tokens // length)
    n_tokens = n_cells * length
    rng = np.random.default_rng(0)
    ids, values = rng.integers(0, n_known, n_tokens), rng.integers(0, max(1, engine.settings.n_bins), n_tokens)
    tokens = TokenBlock(
        ids=ids.astype(np.uint16) if n_known <= 0xFFFF else ids.astype(np.uint32),
        values=values.astype(np.uint8) if engine.settings.value_style == "binned" else values.astype(np.float32),
        offsets=np.arange(0, n_tokens + 1, length, dtype=np.int64),
        faults=np.zeros(n_cells, np.uint8),
        first_row=0,
    )
    batch = engine.batches(tokens)[0]
    others = [threading.Thread(target=engine.infer, args=(batch,), daemon=True) for _ in range(at_once - 1)]
    for thread in others:
        thread.start()
    engine.infer(batch)
    for thread in others:
        thread.join()


def _tokenise_once(engine: Engine) -> None:
    """Take a short cell the whole way, so that the tokenizer is compiled and all threads have been started once."""
    columns = np.arange(len(engine.vocabulary))
    cell = CellBlock(np.array([0, 2]), np.arange(2, dtype=np.int32), np.ones(2, np.float32), 0)
    for _ in engine.run([cell], columns):
        pass


@dataclass(slots=True)
class _Most:
    most: int = 0


@contextmanager
def _peak() -> Iterator[_Most]:
    """The most that resident memory grows inside."""
    found, ended, before = _Most(), threading.Event(), resident_bytes()

    def look() -> None:
        while not ended.wait(_LOOK_S):
            found.most = max(found.most, resident_bytes() - before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found.most = max(found.most, resident_bytes() - before)
