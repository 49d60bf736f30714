"""`Atlas`: the folder that scGPT's authors publish, a faiss index of 33 million cells, opened as it is.

It holds ``index.faiss`` and the labels (``meta.h5ad``), no vectors and no word on the model that made them: distances
are those of faiss, and nothing tells whether queries can be compared.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.reference import approximate
from scgpt_infer.reference.exact import Neighbours
from scgpt_infer.writers.sink import Record
from scgpt_runtime.digests import Digests
from scgpt_runtime.errors import OptionError, ReferenceIndexError, ReferenceMismatchError

__all__ = ["FILES", "Atlas"]

FILES = ("index.faiss", "meta.h5ad")
"""All that scGPT's ``load_index`` reads; ``index_config.json`` beside them only repeats how they were made."""

_PROBES = ((1_000, 16), (4_000, 32), (16_000, 64))
"""Lists of an IVF index up to which so many are looked into, in scGPT's ``build_atlas_index_faiss.py``; above, 128."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Atlas:
    """An open atlas folder.

    Attributes
    ----------
    path
        The folder.
    labels
        Names of all labels, sorted.
    codes
        (n_cells,) int32 place of each cell's label in `labels`, -1 for a cell without one.
    digest
        sha256 of the faiss index.
    """

    path: Path
    labels: tuple[str, ...]
    codes: NDArray[np.int32]
    digest: str
    _index: Any
    _is_open: bool = field(default=True, init=False)

    default_k = 50
    """Neighbours that vote, as in scGPT's tutorial on its atlas."""

    @classmethod
    def open(cls, path: Path, cache_dir: Path | None = None) -> Self:
        """Open an atlas folder; a warning says that its model is not recorded.

        Parameters
        ----------
        path
            The folder.
        cache_dir
            Where the digest of its index is remembered.

        Raises
        ------
        ReferenceIndexError
            Its files cannot be read, or do not belong together.
        MissingDependencyError
            When faiss is not installed.
        """
        index = approximate.opened(path / FILES[0])
        found = _labels(path / FILES[1])
        if len(found) != index.ntotal:
            raise ReferenceIndexError(
                f"{path / FILES[1]} has {len(found):,} labels, and {path / FILES[0]} {index.ntotal:,} cells. "
                "Take both files from one atlas."
            )
        approximate.probe(index, _probes)
        labels, codes = np.unique(found, return_inverse=True)
        missing = 1 if len(labels) and labels[0] == "" else 0  # the empty text sorts first
        digests = Digests(path, cache_dir)
        digest = digests.known(path / FILES[0], FILES[0]) or digests.compute(path / FILES[0], FILES[0])
        digests.save()
        _log.warning(
            "%s does not record which model made its vectors. Its labels are right only for vectors of that model.",
            path,
        )
        return cls(path, tuple(labels[missing:].tolist()), (codes - missing).astype(np.int32), digest, index)

    @property
    def n_cells(self) -> int:
        """Number of reference cells."""
        return len(self.codes)

    @property
    def facts(self) -> Record:
        """What decides its answers."""
        return {
            "reference": self.path.name,
            "reference_sha256": self.digest,
            "reference_kind": "atlas",
            "reference_cells": self.n_cells,
            "reference_model": "not recorded",
        }

    def check(self, vector_id: str) -> None:
        """Nothing can be checked: the folder records no model."""

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """The nearest cells as faiss tells them; see `ReferenceIndex.search`. Their distances are approximate."""
        if not self._is_open:
            raise OptionError(f"The atlas {self.path} is closed, so it cannot be searched. Open it again.")
        if queries.ndim != 2 or queries.shape[1] != self._index.d:
            raise ReferenceMismatchError(
                f"The atlas {self.path} holds vectors {self._index.d} wide, and the queries have shape "
                f"{queries.shape}. Embed them with the model that the atlas was made with."
            )
        rows = np.full((len(queries), k), -1, np.int64)
        apart = np.full((len(queries), k), np.inf)
        good = np.flatnonzero(np.isfinite(queries).all(axis=1))
        if len(good):
            distances, found = self._index.search(np.ascontiguousarray(queries[good], np.float32), k)
            # Codes of a product quantiser may come out a little nearer than nothing.
            apart[good] = np.where(found < 0, np.inf, np.maximum(distances, 0))
            rows[good] = found
        order = np.lexsort((rows, apart), axis=1)
        return Neighbours(np.take_along_axis(rows, order, axis=1), np.take_along_axis(apart, order, axis=1))

    def labels_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Place in `labels` of each row's label, -1 for row -1 and for a cell without a label."""
        return np.where(rows < 0, -1, self.codes[np.maximum(rows, 0)]).astype(np.int32)

    def close(self) -> None:
        """Let go of the index; it cannot be searched afterwards."""
        self._is_open, self._index = False, None


def _probes(lists: int) -> int:
    return next((probes for most, probes in _PROBES if lists <= most), 128)


def _labels(path: Path) -> NDArray[np.str_]:
    with _reading(path), h5py.File(path, "r", locking="best-effort") as file:
        return np.array(file["meta_labels"].asstr()[:], str)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ReferenceIndexError(
            f"{path} cannot be read as the labels of an atlas ({error}); expected an HDF5 file with a dataset "
            "meta_labels of texts. Take a fresh copy of the atlas."
        ) from error
