"""scgpt-infer on tokens that the original drew: its random draws, our engine.

``python -m benchmarks.peers.injected BUNDLE TOKENS.npz PROVIDER PRECISION VECTORS.npy``; the driver calls it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers.tokens import Tokens, drawn
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import Batch
from scgpt_runtime.engine import Engine, EngineOptions

__all__ = ["main"]


def main(bundle: Path, tokens: Path, provider: str, precision: str, output: Path) -> None:
    """Embed tokens."""
    given = drawn(tokens)
    opened = Bundle.open(bundle)
    vectors = np.full((len(given.lengths), opened.manifest.dim), np.nan, np.float32)
    with Engine.open(opened, EngineOptions(provider=provider, precision=precision)) as engine:
        batches = list(_one_by_one(given, len(engine.vocabulary)))
        for batch, answer in engine.answers(batches):
            (vectors[batch.cells],) = answer.values()
    np.save(output, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _one_by_one(tokens: Tokens, n_tokens: int) -> Iterator[Batch]:
    for cell in range(len(tokens.lengths)):
        here = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        wide = tokens.ids[here][None]
        ids = wide.astype(np.uint16) if n_tokens <= 0xFFFF else wide.astype(np.uint32)
        yield Batch(ids, tokens.codes[here][None], np.array([ids.shape[1]], np.int32), np.array([cell]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], Path(sys.argv[5]))
