"""The records that a manifest is made of: tokenizer settings, graphs, files, figures.

Plain data, each with the meaning of its fields. They check nothing; `Manifest` does.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CUDA_DIALECTS",
    "Calibration",
    "FileRecord",
    "GraphRecord",
    "ParityRecord",
    "Taught",
    "TaughtClass",
    "TensorSpec",
    "TokenizerSettings",
]

CUDA_DIALECTS = ("cuda-packed", "cuda-lengths", "cuda-flash", "cuda-exact")
"""Dialects of the CUDA provider, most to be expected of first.

They differ in how attention learns where a cell ends: cells without padding (``embed`` alone), padded cells with their
lengths in two operators, cells of one length. See `GraphRecord`.
"""

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
        Value at ``<cls>``: -2 (the pad value) for zero-shot use, 0 for fine-tuned use
        (scGPT, tokenizer/gene_tokenizer.py).
    mask_value, pad_value
        Values of a masked and of a padded position. Their codes are ``n_bins`` and ``n_bins + 1``.
    seed
        Seed of the counter-based draws.
    ties
        ``hash``: a value on several equal bin edges draws its bin; ``one-sided``: it takes the highest.
    sample
        A cell that is too long keeps the tokens with the smallest hash (``hash``) or the highest values (``top``).
    include_zeros
        Every gene of the matrix that takes part is a token, those without a value in bin 0, as in scGPT's fine-tuning
        with ``include_zero_gene``; else only genes that have a value.
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
    include_zeros: bool = False

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
    """One ONNX graph: the task it answers, its precision and dialect, and where it lies in the bundle.

    Attributes
    ----------
    task, precision
        What it answers, and in which arithmetic. Heads of int8 and bf16 compute in fp32.
    dialect
        ``portable`` has standard operators alone, but for attention in ``perturb``, which is ONNX Runtime's own.
        ``openvino`` is static int8. Those of `CUDA_DIALECTS` have fused operators of the CUDA provider.
    path
        In the bundle. Two records may share a file.
    opset
        Of the standard's operators.
    inputs, outputs
        The same for all precisions and dialects of a task, but for two: ``cuda-exact`` takes no ``lengths``, since
        all its cells are as long as the rectangle, and ``cuda-packed`` takes ``ids`` and ``values`` (tokens,) without
        padding and three int32 inputs in their place. ``offsets`` (cells + 1,): cell i has the tokens
        ``offsets[i]:offsets[i + 1]``. ``places`` (cells, longest): where each token lies in a rectangle of padded
        cells, counted row by row, then where its padding lies. ``firsts`` (cells,): the row of each cell's ``<cls>``;
        any row for a cell without tokens, whose vector then means nothing. ``perturb`` takes no ``lengths`` either, but
        ``flags`` (cells, tokens): 1 at the genes that are perturbed.
    """

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
class Calibration:
    """The cells that static activation ranges were taken from.

    Attributes
    ----------
    sha256
        Of their file, as hex.
    cells
        Number of cells.
    ranges
        sha256 of the ranges, as hex: part of the id of vectors that are made with them.
    """

    sha256: str
    cells: int
    ranges: str


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
        ``1-cosine`` for embeddings and hidden states, ``relative`` (length of the difference over length) for heads.
    worst, limit
        The figure and what it may be at most.
    cells
        Number of cells measured.
    dialect
        Dialect of the graph that was measured.
    """

    task: str
    precision: str
    provider: str
    measure: str
    worst: float
    limit: float
    cells: int
    dialect: str = "portable"


@dataclass(frozen=True, slots=True)
class TaughtClass:
    """A class of a taught classifier: cells that taught it, and how it fares on cells that did not."""

    label: str
    cells: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Taught:
    """How the classifier of a bundle was taught on the vectors that its model makes, and how good it is.

    All figures are of held-out cells: each cell is told by a classifier that was taught without its fold.

    Attributes
    ----------
    column
        Column of ``obs`` that the labels are from.
    cells
        Cells that taught it.
    left_out
        Other cells of the reference, by the reason.
    by, groups
        Column of ``obs`` whose values no two folds share, such as a donor, and their number; empty and 0 where cells
        were split whatever they are from, so that the figures do not hold for another donor.
    folds
        Parts that cells were split into.
    penalty, regularisation
        Of the logistic regression: ``l2``, and scikit-learn's C for vectors centred and divided by the root of their
        mean variance.
    balanced
        Whether each class counted the same, whatever its number of cells.
    vector_id
        Id of the vectors.
    file, vectors
        sha256 of the reference's file (empty where there was no one file), and of vectors and labels together.
    scikit_learn
        Version that fitted it.
    accuracy, macro_f1, weighted_f1
        Share of right answers; mean F1 of the classes, each counted once or by its cells.
    confident, accuracy_of_confident
        Share of answers with a probability of at least 0.5, and of right ones among them; None where there are none.
    calibration_error
        Expected calibration error of the probabilities.
    classes
        In the order of the classifier's outputs.
    """

    column: str
    cells: int
    left_out: dict[str, int]
    by: str
    groups: int
    folds: int
    penalty: str
    regularisation: float
    balanced: bool
    vector_id: str
    file: str
    vectors: str
    scikit_learn: str
    accuracy: float
    macro_f1: float
    weighted_f1: float
    confident: float
    accuracy_of_confident: float | None
    calibration_error: float
    classes: tuple[TaughtClass, ...]
