"""Reference cells small enough to check by hand: unit vectors drawn from a seed, three labels in turn."""

import numpy as np

from scgpt_infer.reference import LabelledVectors, Origin

ORIGIN = Origin("toy", "id-of-toy", "fp32", {"seed": 0})
LABELS = ("T cell", "B cell", "monocyte")
DIM = 16


def unit(vectors) -> np.ndarray:
    """Vectors at unit length, float32."""
    vectors = np.asarray(vectors, np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def drawn(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Unit vectors in all directions."""
    return unit(np.random.default_rng(seed).normal(size=(n, dim)))


def labelled(vectors: np.ndarray, labels=None) -> LabelledVectors:
    """Cells ``cell-0``, ``cell-1`` and so on with these vectors."""
    given = np.resize(LABELS, len(vectors)) if labels is None else np.asarray(labels, str)
    return LabelledVectors(vectors, given, [f"cell-{i}" for i in range(len(vectors))], "cell_type", ORIGIN)
