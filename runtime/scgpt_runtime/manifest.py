"""What a bundle says of itself: `Manifest` and the records in it, to and from JSON.

In: ``manifest.json``. Out: frozen dataclasses. It opens no other file and knows nothing of ONNX.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from scgpt_runtime.errors import BundleError, BundleTooNewError

__all__ = [
    "FORMAT",
    "GraphRecord",
    "FileRecord",
    "Manifest",
    "ParityRecord",
    "TensorSpec",
    "TokenizerSettings",
    "vector_id",
]

FORMAT = 1
"""Newest bundle format that this runtime reads and the one that it writes."""

Ties = Literal["hash", "one-sided"]
Sample = Literal["hash", "top"]


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """All that decides which tokens a cell becomes.

    Attributes
    ----------
    cls_id, pad_id
        Token ids of ``<cls>`` and ``<pad>``.
    max_length
        Longest cell in tokens, ``<cls>`` counted.
    n_bins
        Bins of the value axis; codes run from 0 to ``n_bins - 1``. The original's zero-shot path has 51.
    value_style
        ``binned``: uint8 codes; ``raw``: float32 values as they come.
    cls_value
        Value at ``<cls>``: -2 (the pad value) for zero-shot use, 0 for fine-tuned use (SPEC of scGPT, CLS value).
    mask_value, pad_value
        Values of a masked and of a padded position. Their codes are ``n_bins`` and ``n_bins + 1``.
    seed
        Seed of the counter-based draws.
    ties
        ``hash``: a value on several equal bin edges draws its bin; ``one-sided``: it takes the highest.
    sample
        A cell that is too long keeps the tokens with the smallest hash (``hash``) or the highest values (``top``).
    """

    cls_id: int
    pad_id: int
    max_length: int = 1200
    n_bins: int = 51
    value_style: Literal["binned", "raw"] = "binned"
    cls_value: float = -2.0
    mask_value: float = -1.0
    pad_value: float = -2.0
    seed: int = 0
    ties: Ties = "hash"
    sample: Sample = "hash"

    @property
    def mask_code(self) -> int:
        """Value code of a masked position."""
        return self.n_bins

    @property
    def pad_code(self) -> int:
        """Value code of a padded position."""
        return self.n_bins + 1

    @property
    def cls_code(self) -> int:
        """Value code of ``<cls>``."""
        return self.pad_code if self.cls_value == self.pad_value else int(self.cls_value)

    @property
    def levels(self) -> tuple[float, ...]:
        """Value that each code stands for: 0 to n_bins - 1, then mask and pad."""
        return (*map(float, range(self.n_bins)), self.mask_value, self.pad_value)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype (numpy's name) and shape of a graph's input or output; a string is a free axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class GraphRecord:
    """One ONNX graph: the task it answers, its precision and dialect, and where it lies in the bundle."""

    task: str
    precision: str
    dialect: str
    path: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of the bundle: path relative to it, size in bytes, sha256 as hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ParityRecord:
    """Worst cell of the golden cells against the fp32 reference.

    Attributes
    ----------
    task, precision
        What was measured.
    provider
        Execution provider that gave the figure, with its version, such as ``CPUExecutionProvider 1.32.0``.
    measure
        ``1-cosine`` for embeddings, ``max-relative`` (largest difference over largest magnitude) for heads.
    worst, limit
        The figure and what it may be at most.
    cells
        Number of cells measured.
    """

    task: str
    precision: str
    provider: str
    measure: str
    worst: float
    limit: float
    cells: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a runtime needs to know of a bundle before it opens a graph.

    Attributes
    ----------
    name
        Name of the model, for people; also part of the key that results are stored under.
    args
        scGPT's own ``args.json``, as far as the model was built from it.
    source
        sha256 of each file of the checkpoint, by file name.
    weights
        sha256 of the reference weights (names, shapes and float32 bytes), whatever file they came from.
    dim
        Width of the cell embedding.
    pooling
        How a cell's vector is taken from the hidden states: ``cls``, ``avg-pool`` or ``w-pool``.
    tokenizer
        Settings that the bundle was sealed with.
    genes
        Versions of the gene tables behind Ensembl ids and aliases, by source.
    precisions
        Sealed precisions, best parity first.
    vector_ids
        Precision to the id of vectors made with the settings as sealed.
    labels, batches, modalities
        Names of the classes of the heads that the checkpoint holds, in order; empty where it has none.
    binning_genes
        The gene names that binning saw when the checkpoint was fine-tuned; empty: all of the vocabulary.
    key
        ``obsm`` key that embeddings are written under.
    """

    name: str
    args: dict[str, Any]
    source: dict[str, str]
    weights: str
    dim: int
    pooling: str
    tokenizer: TokenizerSettings
    genes: dict[str, str]
    precisions: tuple[str, ...]
    vector_ids: dict[str, str]
    graphs: tuple[GraphRecord, ...]
    parity: tuple[ParityRecord, ...]
    built_with: dict[str, str]
    licence: str = ""
    provenance: str = ""
    key: str = "X_scGPT"
    labels: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    binning_genes: tuple[str, ...] = ()
    files: tuple[FileRecord, ...] = ()
    format: int = field(default=FORMAT)
