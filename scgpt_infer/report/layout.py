"""Places of cells on a map: the most that one map shows, and where UMAP puts them.

In: vectors. Out: (n_cells, 2) coordinates, and in words how they were made. It knows no file.
"""

import warnings
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import MissingDependencyError

__all__ = ["evenly", "umap_places"]

NEIGHBOURS = 15
FEWEST = 10
"""Fewer cells have no neighbourhoods to speak of."""

SEED = 0


def evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of some rows, spread evenly over them, the same ones each time."""
    if len(rows) <= most:
        return rows
    return rows[np.arange(most) * len(rows) // most]


def umap_places(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
    """Where UMAP puts cells by the cosine of their vectors, with a fixed seed on one core: always the same places.

    Parameters
    ----------
    vectors
        (n_cells, dim), finite.

    Returns
    -------
    places
        (n_cells, 2) float32.
    told
        How they were made.

    Raises
    ------
    MissingDependencyError
        If umap-learn is not installed.
    """
    if len(vectors) < FEWEST:
        return _principal(vectors), f"the first two principal components, since UMAP needs {FEWEST} cells"
    try:
        import umap
    except ImportError as error:
        raise MissingDependencyError(
            'Placing the cells needs umap-learn, which is not installed: pip install "scgpt-infer[report]". Or name '
            "places that are in the file with --umap-key."
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cells that are alike or far from all others: the map is one all the same
        # One job: with more, umap could not keep to the seed.
        model = umap.UMAP(n_neighbors=min(NEIGHBOURS, len(vectors) - 1), metric="cosine", random_state=SEED, n_jobs=1)
        places = model.fit_transform(vectors)
    return np.asarray(places, np.float32), f"UMAP by cosine (umap-learn {version('umap-learn')}, seed {SEED})"


def _principal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    places = np.zeros((len(vectors), 2), np.float32)
    places[:, : len(axes)] = centred @ axes.T
    return places
