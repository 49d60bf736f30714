"""The cells that a bundle carries to prove itself: raw values, their tokens, their reference vectors.

In and out: ``golden.npz``, the same bytes for the same cells. It computes nothing and knows no model.
"""

import io
import zipfile
import zlib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import BundleError

__all__ = ["Golden"]


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden cells of a bundle.

    Attributes
    ----------
    indptr
        (n_cells + 1,) int64: the raw values of cell i are ``indptr[i]:indptr[i + 1]``.
    token_ids
        (n_values,) uint16 or uint32 token id of the gene of each raw value.
    data
        (n_values,) float32 raw values.
    ids, values, offsets
        The `TokenBlock` that these cells must become with the settings as sealed.
    vectors
        (n_cells, dim) float32 embeddings of the fp32 reference, L2-normalised.
    flags, profiles
        Of a perturbation generator, else None: (n_tokens,) uint8 whether each token's gene is perturbed, and float32
        what the reference predicts of its value. The cells then have no ``<cls>``, and their raw values are their
        tokens'.
    """

    indptr: NDArray[np.int64]
    token_ids: NDArray[np.uint16] | NDArray[np.uint32]
    data: NDArray[np.float32]
    ids: NDArray[np.uint16] | NDArray[np.uint32]
    values: NDArray[np.uint8] | NDArray[np.float32]
    offsets: NDArray[np.int64]
    vectors: NDArray[np.float32]
    flags: NDArray[np.uint8] | None = None
    profiles: NDArray[np.float32] | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(n_cells,) int32 tokens of each cell."""
        return np.diff(self.offsets).astype(np.int32)

    def block(self) -> CellBlock:
        """The raw cells. A column is a token id: in their column map each gene that takes part has its own number."""
        return CellBlock(self.indptr, self.token_ids.astype(np.int32), self.data, 0)

    def save(self, path: Path) -> None:
        """Write ``golden.npz`` without dates and in one order."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            there = [field.name for field in fields(self) if getattr(self, field.name) is not None]
            for name in sorted(there):
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                entry.create_system = 3
                entry.external_attr = 0o644 << 16
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(getattr(self, name)), (1, 0), allow_pickle=False)
                archive.writestr(entry, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``golden.npz``.

        Raises
        ------
        BundleError
            The file cannot be read, or its arrays do not fit together.
        """
        try:
            with np.load(path, allow_pickle=False) as found:
                wanted = [field.name for field in fields(cls) if field.default is MISSING or field.name in found]
                golden = cls(**{name: found[name] for name in wanted})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(f"{path} cannot be read: {error}. Take a fresh copy of the bundle.") from error
        golden._check(path)
        return golden

    def _check(self, path: Path) -> None:
        fit = (
            _splits(self.indptr, len(self.data))
            and _splits(self.offsets, len(self.ids))
            and len(self.token_ids) == len(self.data)
            and len(self.values) == len(self.ids)
            and len(self.offsets) == len(self.indptr)
            and self.vectors.ndim == 2
            and len(self.vectors) == self.n_cells
            and (self.flags is None) == (self.profiles is None)
            and all(of_tokens is None or len(of_tokens) == len(self.ids) for of_tokens in (self.flags, self.profiles))
        )
        if not fit:
            raise BundleError(f"The arrays of {path} do not fit together. Export the bundle again.")


def _splits(borders: NDArray[np.int64], n: int) -> bool:
    """Whether ``borders`` cut an array of length ``n`` into consecutive pieces."""
    one_axis = borders.ndim == 1 and len(borders) >= 1 and borders.dtype == np.int64
    return bool(one_axis and borders[0] == 0 and borders[-1] == n and (np.diff(borders) >= 0).all())
