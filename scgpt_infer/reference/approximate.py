"""Candidates for nearest neighbours from a faiss index: built from vectors, kept in a file, searched.

In: unit vectors. Out: rows that are probably near, for others to rank by exact distance. faiss is imported when an
index is built or opened. It knows no labels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import MissingDependencyError, OptionError, ReferenceIndexError
from scgpt_runtime.machine import cores

__all__ = ["Approximate", "FaissKind", "FaissOptions", "build", "check", "opened", "options_for", "probe", "read"]

FaissKind = Literal["hnsw", "ivfpq"]
Say = Callable[[str], None]

LEAST_IVFPQ = 10_000
"""Fewest vectors that its codebooks of 256 entries can be learned from: faiss asks for 39 an entry."""

_LEAST_K = 10  # fewer neighbours are sought among as many candidates as these
_ADDED = 65_536  # vectors that are added at a time
_TRAINED = 64  # vectors a list that lists and codebooks are learned from


@dataclass(frozen=True, slots=True)
class FaissOptions:
    """How a faiss index was built and is searched.

    Attributes
    ----------
    factory
        Its description, as ``faiss.index_factory`` reads it.
    candidates
        Rows that are taken from it for each neighbour asked for, to be ranked by exact distance.
    ef_construction, ef_search
        Of HNSW: nodes that are kept in sight when a vector is added, and when one is sought. 0 for another kind.
    probes
        Of IVF: lists that are looked into. 0 for another kind.
    """

    factory: str
    candidates: int
    ef_construction: int = 0
    ef_search: int = 0
    probes: int = 0


def options_for(kind: FaissKind, n_cells: int, dim: int) -> FaissOptions:
    """How an index of so many vectors is built.

    Raises
    ------
    OptionError
        There are too few vectors for this kind.
    """
    if kind == "hnsw":
        # With fewer in sight, more searches never come to the type of their query, and find none of its neighbours.
        return FaissOptions("HNSW32,SQ8", candidates=5, ef_construction=200, ef_search=256)
    if n_cells < LEAST_IVFPQ:
        raise OptionError(
            f"An ivfpq index needs at least {LEAST_IVFPQ:,} reference cells with a label, and there are {n_cells:,}. "
            "Take exact (--kind exact): it is fast for so few."
        )
    lists = min(2 ** round(math.log2(4 * math.sqrt(n_cells))), n_cells // 39)
    codes = max(size for size in range(1, 65) if dim % size == 0)
    # Lists are found by a graph, a query at a time: in a product of all queries a list could depend on the others.
    return FaissOptions(f"IVF{lists}_HNSW32,PQ{codes}", candidates=20, probes=max(1, min(64, lists // 4)))


def check() -> None:
    """Make sure that faiss is installed.

    Raises
    ------
    MissingDependencyError
        When it is not.
    """
    if find_spec("faiss") is None:
        raise MissingDependencyError(
            "An index for approximate search (hnsw, ivfpq, or the original's atlas) needs faiss, which is not "
            'installed: pip install "scgpt-infer[annotate]". An exact index (--kind exact) does without.'
        )


@dataclass(frozen=True, slots=True)
class Approximate:
    """An open faiss index.

    Attributes
    ----------
    index
        The faiss object.
    options
        How it is searched.
    """

    index: Any
    options: FaissOptions

    def candidates(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Rows that are probably near: (n_queries, m) with m of at least ``k`` where there are so many; -1 for none."""
        wanted = min(max(k, _LEAST_K) * self.options.candidates, self.index.ntotal)
        rows: NDArray[np.int64] = self.index.search(np.ascontiguousarray(queries), wanted)[1]
        return rows


def build(vectors: NDArray[np.float32], options: FaissOptions, path: Path, say: Say) -> Approximate:
    """Build an index and write it.

    Parameters
    ----------
    vectors
        (n_cells, dim) unit vectors; may be a memory map.
    options
        As `options_for` gives them.
    path
        File to write.
    say
        Told of each step.
    """
    faiss = _faiss()
    index = faiss.index_factory(vectors.shape[1], options.factory, faiss.METRIC_L2)
    if options.ef_construction:
        index.hnsw.efConstruction = options.ef_construction
    if not index.is_trained:
        say(f"learning the lists and codebooks of {options.factory}")
        index.train(_sample(vectors, _training_size(index)))
    for start in range(0, len(vectors), _ADDED):
        say(f"indexing {start:,} of {len(vectors):,} vectors")
        index.add(np.asarray(vectors[start : start + _ADDED]))
    faiss.write_index(index, str(path))
    return _tuned(index, options)


def read(path: Path, options: FaissOptions, n_cells: int, dim: int) -> Approximate:
    """Open an index.

    Raises
    ------
    ReferenceIndexError
        It cannot be read, or is of other vectors.
    MissingDependencyError
        When faiss is not installed.
    """
    index = opened(path)
    if (index.ntotal, index.d) != (n_cells, dim):
        raise ReferenceIndexError(
            f"{path} holds {index.ntotal:,} vectors of {index.d}; expected {n_cells:,} of {dim}. Build the index anew."
        )
    return _tuned(index, options)


def opened(path: Path) -> Any:
    """The faiss index of a file, searched as it was stored.

    Raises
    ------
    ReferenceIndexError
        It cannot be read.
    MissingDependencyError
        When faiss is not installed.
    """
    faiss = _faiss()
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise ReferenceIndexError(
            f"{path} cannot be read by faiss {faiss.__version__}. Take a fresh copy, or build the index anew."
        ) from error


def probe(index: Any, rule: Callable[[int], int]) -> None:
    """Set how many lists of an IVF index are looked into, by the number of lists; another index stays as it is."""
    if (ivf := _faiss().try_extract_index_ivf(index)) is not None:
        ivf.nprobe = rule(ivf.nlist)


def _faiss() -> Any:
    check()
    import faiss

    # OpenMP counts the cores of the machine, not those that a container grants.
    faiss.omp_set_num_threads(min(cores().usable, faiss.omp_get_max_threads()))
    return faiss


def _tuned(index: Any, options: FaissOptions) -> Approximate:
    if options.ef_search:
        _faiss().downcast_index(index).hnsw.efSearch = options.ef_search
    probe(index, lambda lists: options.probes)
    return Approximate(index, options)


def _training_size(index: Any) -> int:
    ivf = _faiss().try_extract_index_ivf(index)
    return _ADDED if ivf is None else max(_TRAINED * ivf.nlist, _ADDED)


def _sample(vectors: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Vectors spread evenly over all."""
    rows = np.unique(np.linspace(0, len(vectors) - 1, min(n, len(vectors))).astype(np.int64))
    return np.ascontiguousarray(vectors[rows])
