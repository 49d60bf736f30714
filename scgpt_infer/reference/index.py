"""`ReferenceIndex`: labelled cells on disk, open to be searched. Query vectors in, neighbours and their labels out.

It knows no model but the id of the vectors that it holds.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.reference import approximate, building, folder
from scgpt_infer.reference.approximate import Approximate
from scgpt_infer.reference.building import Kind, LabelledVectors, Say
from scgpt_infer.reference.exact import Neighbours, nearest, reranked
from scgpt_infer.reference.manifest import IndexManifest
from scgpt_infer.writers.sink import Record
from scgpt_runtime.errors import OptionError, ReferenceIndexError, ReferenceMismatchError

__all__ = ["ReferenceIndex"]


@dataclass(slots=True)
class ReferenceIndex:
    """An open index of labelled reference cells.

    Attributes
    ----------
    path
        Its folder.
    manifest
        What it says of itself.
    vectors
        (n_cells, dim) float32 of unit length, a memory map.
    codes
        (n_cells,) int32 place of each cell's label in `labels`.
    """

    path: Path
    manifest: IndexManifest
    vectors: NDArray[np.float32]
    codes: NDArray[np.int32]
    _approximate: Approximate | None
    _names: list[str] = field(default_factory=list, init=False)
    _is_open: bool = field(default=True, init=False)

    default_k = 10
    """Neighbours that vote, as in scGPT's reference mapping."""

    @classmethod
    def build(
        cls,
        output: Path,
        cells: LabelledVectors,
        kind: Kind = "auto",
        say: Say = lambda line: None,
        cache_dir: Path | None = None,
    ) -> Self:
        """Make an index and open it; see `scgpt_infer.reference.building.build`."""
        building.build(output, cells, kind, say)
        return cls.open(output, cache_dir)

    @classmethod
    def open(cls, path: Path, cache_dir: Path | None = None) -> Self:
        """Open an index and prove that no file of it has changed.

        Parameters
        ----------
        path
            Its folder.
        cache_dir
            Where digests are remembered; None: every opening reads every file.

        Raises
        ------
        ReferenceIndexError
            There is no index at ``path``.
        ReferenceChangedError
            A file is missing or not the one that was written; it is named.
        ReferenceTooNewError
            The format is newer than this scgpt-infer reads.
        MissingDependencyError
            It needs faiss, which is not installed.
        """
        manifest = IndexManifest.read(path)
        folder.proven(path, manifest, cache_dir)
        shape = (manifest.n_cells, manifest.dim)
        vectors = folder.array(path, manifest, "vectors.npy", np.float32, shape)
        codes = folder.array(path, manifest, "labels.npy", np.int32, shape[:1])
        if codes.min() < 0 or codes.max() >= len(manifest.labels):
            raise ReferenceIndexError(f"{path / 'labels.npy'} names labels that there are not. Build the index anew.")
        if manifest.kind == "exact":
            return cls(path, manifest, vectors, codes, None)
        if manifest.faiss is None:
            raise ReferenceIndexError(f"{path} tells no options of its {manifest.kind} index. Build the index anew.")
        return cls(path, manifest, vectors, codes, approximate.read(path / "index.faiss", manifest.faiss, *shape))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all labels, sorted."""
        return self.manifest.labels

    @property
    def n_cells(self) -> int:
        """Number of reference cells."""
        return self.manifest.n_cells

    @property
    def facts(self) -> Record:
        """What decides its answers."""
        told: dict[str, str | int | float] = {
            "reference": self.path.name,
            "reference_sha256": self.manifest.digest,
            "reference_kind": self.manifest.kind,
            "reference_cells": self.n_cells,
            "reference_label": self.manifest.label_column,
            "reference_model": self.manifest.origin.model,
        }
        return told if self.manifest.recall is None else {**told, "reference_recall": self.manifest.recall.share}

    def check(self, vector_id: str) -> None:
        """Make sure that vectors can be compared with those of the index.

        Parameters
        ----------
        vector_id
            Of the queries.

        Raises
        ------
        ReferenceMismatchError
            They cannot.
        """
        origin = self.manifest.origin
        if vector_id == origin.vector_id:
            return
        told = {"precision": origin.precision, **origin.settings}
        settings = ", ".join(f"{name} {value}" for name, value in told.items())
        raise ReferenceMismatchError(
            f"The vectors of the reference {self.path} were made by the model {origin.model} ({settings}; vector id "
            f"{origin.vector_id}), and those to be labelled have vector id {vector_id}: distances between them mean "
            "nothing. Take that model with these settings, or index the reference with this one: scgpt-infer index"
        )

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """The nearest reference cells.

        Parameters
        ----------
        queries
            (n_queries, dim) unit vectors. One that is not finite gets no neighbours.
        k
            Neighbours of each.

        Returns
        -------
        Neighbours
            By (distance, row): the same whatever other queries there are.
        """
        if not self._is_open:
            raise OptionError(f"The reference {self.path} is closed, so it cannot be searched. Open it again.")
        if queries.ndim != 2 or queries.shape[1] != self.manifest.dim:
            raise ReferenceMismatchError(
                f"The reference {self.path} holds vectors {self.manifest.dim} wide, and the queries have shape "
                f"{queries.shape}. Embed them with the model {self.manifest.origin.model}."
            )
        queries = np.ascontiguousarray(queries, np.float32)
        if self._approximate is None:
            return nearest(queries, self.vectors, k)
        good = np.flatnonzero(np.isfinite(queries).all(axis=1))
        candidates = np.full((len(queries), 1), -1, np.int64)
        if len(good):
            found = self._approximate.candidates(queries[good], k)
            candidates = np.full((len(queries), found.shape[1]), -1, np.int64)
            candidates[good] = found
        return reranked(queries, self.vectors, candidates, k)

    def labels_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Place in `labels` of each row's label, -1 for row -1."""
        return np.where(rows < 0, -1, self.codes[np.maximum(rows, 0)]).astype(np.int32)

    def cell_names(self, rows: NDArray[np.int64]) -> list[str]:
        """Names of reference cells."""
        if not self._names:
            self._names = folder.names(self.path / "cells.txt")
        return [self._names[row] for row in rows.tolist()]

    def close(self) -> None:
        """Let go of what it holds in memory; it cannot be searched afterwards."""
        self._is_open, self._approximate, self._names = False, None, []
