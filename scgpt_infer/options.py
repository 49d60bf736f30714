"""What a user can ask of an embedding job: `EmbedOptions`, checked when it is made.

It knows the values that are allowed; it does not know whether this machine or bundle can give them.
"""

from dataclasses import dataclass
from typing import Literal

from scgpt_runtime.errors import OptionError

__all__ = ["CHOICES", "MIN_MATCH", "EmbedOptions"]

CellsIn = Literal["rows", "columns"]
Dtype = Literal["float32", "float16"]
Genes = Literal["exact", "alias"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
Provider = Literal["auto", "cpu", "openvino", "cuda", "tensorrt"]
Sample = Literal["hash", "top"]
Ties = Literal["hash", "one-sided"]

CHOICES: dict[str, tuple[str, ...]] = {
    "cells_in": ("rows", "columns"),
    "dtype": ("float32", "float16"),
    "genes": ("exact", "alias"),
    "precision": ("auto", "fp32", "fp16", "bf16", "int8"),
    "provider": ("auto", "cpu", "openvino", "cuda", "tensorrt"),
    "sample": ("hash", "top"),
    "ties": ("hash", "one-sided"),
}
"""Allowed words of the options that take one, in the order in which help pages print them."""

MIN_MATCH = 0.1
"""Default of `EmbedOptions.min_match`."""

_AT_LEAST = {"threads": 1, "instances": 1, "batch_tokens": 1, "max_length": 2, "seed": 0, "limit": 1}
_SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """Options of an embedding job. None means the value that the bundle was sealed with, or the best one here.

    Attributes
    ----------
    layer
        Where the counts are: a layer's name, ``raw`` or ``X``. None: ``layers["counts"]``, else ``X``.
    modality
        Of a file that holds several, the one to read. None: that of RNA.
    cells_in
        Of a table, whether its ``rows`` or its ``columns`` are cells. None: recognised by the gene names.
    where
        Of a SOMA experiment, which cells are taken: a filter of ``obs``, such as ``"cell_type == 'B cell'"``.
    organism
        Of a release or copy of the CELLxGENE Census, the experiment that is read. None: ``homo_sapiens``.
    gene_col
        Column of ``var`` with gene names or Ensembl ids, or ``index``. None: the one that matches best.
    genes
        ``exact``: vocabulary names and Ensembl ids alone; ``alias``: also previous and alias symbols.
    min_match
        Smallest fraction of genes that must be known, 0 to 1.
    provider, precision
        Execution provider and numeric precision.
    device
        GPUs: ``auto`` (one of them), ``all``, or numbers such as ``0`` or ``0,1``. On a processor ``auto`` or ``0``.
    threads
        Cores in all. None: those that this process may use.
    instances
        Batches that are answered at a time, the cores shared out among them; on GPUs, those of all of them. None: what
        answers most cells a second; 1 answers a single cell soonest.
    batch_tokens
        Most tokens in one batch.
    max_length
        Longest cell in tokens, ``<cls>`` counted.
    seed
        Seed of the counter-based draws.
    ties
        How a value on several equal bin edges finds its bin.
    sample
        Which tokens a cell that is too long keeps.
    limit
        Take the first so many cells only.
    key
        Name under ``obsm``. None: the one of the bundle.
    obs_only
        Leave ``X``, ``layers``, ``raw`` and pairwise matrices out of an ``.h5ad`` output.
    in_place
        Add the embedding to the input file itself.
    dtype
        What vectors are stored as in a file. Half the room, and 3 to 4 digits.

    Raises
    ------
    OptionError
        When a value is not allowed, or two do not go together.
    """

    layer: str | None = None
    modality: str | None = None
    cells_in: CellsIn | None = None
    where: str | None = None
    organism: str | None = None
    gene_col: str | None = None
    genes: Genes = "exact"
    min_match: float = MIN_MATCH
    provider: Provider = "auto"
    precision: Precision = "auto"
    device: str = "auto"
    threads: int | None = None
    instances: int | None = None
    batch_tokens: int | None = None
    max_length: int | None = None
    seed: int | None = None
    ties: Ties | None = None
    sample: Sample | None = None
    limit: int | None = None
    key: str | None = None
    obs_only: bool = False
    in_place: bool = False
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            _check_choice(name, getattr(self, name), allowed)
        for name, least in _AT_LEAST.items():
            _check_whole_number(name, getattr(self, name), least)
        if self.seed is not None and self.seed >= _SEEDS:
            raise OptionError(f"seed is {self.seed}; expected a whole number below 2^64.")
        if not _is_number(self.min_match) or not 0 <= self.min_match <= 1:
            raise OptionError(f"min_match is {self.min_match!r}; expected a fraction from 0 to 1, such as 0.1.")
        if self.key is not None and not _is_name(self.key):
            raise OptionError(
                f"key is {self.key!r}; expected a name for obsm without '/', blanks and control characters, "
                "such as X_scGPT."
            )
        self._check_pairs()

    def _check_pairs(self) -> None:
        if self.in_place and self.limit is not None:
            raise OptionError(
                "--limit and --in-place (limit, in_place) do not go together: the input file keeps all of its cells."
            )
        if self.in_place and self.obs_only:
            raise OptionError(
                "--obs-only and --in-place (obs_only, in_place) do not go together: the input file keeps its matrix."
            )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    """Whether HDF5 can take it as one link's name, and people can type it."""
    if not isinstance(value, str) or value in ("", ".", ".."):
        return False
    return value.isprintable() and "/" not in value and not any(character.isspace() for character in value)


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    optional = name in ("cells_in", "sample", "ties")
    if (value is None and optional) or value in allowed:
        return
    raise OptionError(f"{name} is {value!r}; expected one of {', '.join(allowed)}.")


def _check_whole_number(name: str, value: object, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name} is {value!r}; expected a whole number of at least {least}.")
