"""What a bundle says of itself: `Manifest`, with the records in it, to and from JSON.

In: ``manifest.json``. Out: frozen dataclasses. It opens no other file and knows nothing of ONNX.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn, Self

from scgpt_runtime.decode import decode
from scgpt_runtime.errors import BundleChangedError, BundleError, BundleTooNewError
from scgpt_runtime.records import (
    CUDA_DIALECTS,
    Calibration,
    FileRecord,
    GraphRecord,
    ParityRecord,
    Taught,
    TaughtClass,
    TensorSpec,
    TokenizerSettings,
)

__all__ = [
    "CONTRACT",
    "CUDA_DIALECTS",
    "FORMAT",
    "PRECISIONS",
    "STATIC",
    "Calibration",
    "FileRecord",
    "GraphRecord",
    "Manifest",
    "ParityRecord",
    "Taught",
    "TaughtClass",
    "TensorSpec",
    "TokenizerSettings",
    "digest_of",
    "format_of",
    "inside",
    "vector_id",
]

FORMAT = 3
"""Newest bundle format that this runtime reads. A bundle is written in the oldest that suffices (`format_of`)."""

_WITH_ZEROS = 2
"""First format with `TokenizerSettings.include_zeros`: a runtime that overlooked it would make other vectors."""

_WITH_MODALITIES = 3
"""First format with a ``modalities.json``: a runtime that overlooked it would bin all modalities together."""

CONTRACT = 1
"""Number of the rules that turn a cell into a vector; another number means that vectors do not compare."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""Precisions that a graph can have."""

STATIC = "int8-static"
"""Class of the arithmetic of int8 graphs with static ranges, those of dialect ``openvino``."""


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
        sha256 of the reference weights (names, shapes and float32 bytes), whatever file they came from, and of what
        else decides the model's answers: its own heads, value style, norm, genes that binning saw, modalities. A
        taught head does not change it.
    dim
        Width of the cell embedding.
    pooling
        How a cell's vector is taken from the hidden states: ``cls``, ``avg-pool`` or ``w-pool``.
    tokenizer
        Settings that the bundle was sealed with.
    genes
        Versions of the gene tables behind Ensembl ids and aliases, by source.
    precisions
        Sealed precisions, best parity first; behind them those that were not measured (`unmeasured`).
    vector_ids
        Precision to the id of vectors made with the settings as sealed; under `STATIC` that of static int8.
    labels, batches
        Names of the classes of the heads that the checkpoint holds, in order; empty where it has none.
    modalities
        Names of the modalities of a multi-omic model by number, special ones such as ``<cls>`` included; empty for
        other models. ``modalities.json`` tells which token is of which.
    binning_genes
        The gene names that binning saw when the checkpoint was fine-tuned: other genes are left out before binning.
        Empty: all of the vocabulary.
    key
        ``obsm`` key that embeddings are written under.
    calibration
        Where the ranges of static int8 come from; empty where there is no such graph.
    taught
        How the graphs of ``classify`` were taught, and their figures; None where they are of the checkpoint, or none.
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
    calibration: tuple[Calibration, ...] = ()
    taught: Taught | None = None
    files: tuple[FileRecord, ...] = ()
    format: int = 1

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Sealed precisions without a figure: bf16, which no processor's provider computes. What runs one has to
        prove it first.
        """
        measured = {found.precision for found in self.parity}
        return tuple(name for name in self.precisions if name not in measured)

    def arithmetic(self, name: str) -> str:
        """A class of arithmetic with all that it depends on beside the weights: the ranges, for `STATIC`."""
        return "-".join([name, *(found.ranges for found in self.calibration if name == STATIC)])

    def to_json(self) -> str:
        """Text of ``manifest.json``: sorted keys, the same bytes for the same manifest.

        Raises
        ------
        BundleError
            A field contradicts another, or holds what JSON or a runtime cannot read back.
        """
        _check(self)
        told = asdict(self)
        try:
            told["digest"] = digest_of(told)
            return json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise BundleError(f"The manifest holds a value that JSON cannot: {error}.") from error

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read ``manifest.json``. Fields that this runtime does not know are left out: a change that may not be
        overlooked raises the format number.

        Raises
        ------
        BundleTooNewError
            The format number is newer than `FORMAT`.
        BundleError
            Not JSON, a field is missing or of the wrong type, or two contradict each other.
        BundleChangedError
            It is not the manifest that was sealed.
        """
        try:
            found = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"manifest.json is not JSON: {error}. Take a fresh copy of the bundle.") from error
        if not isinstance(found, dict) or type(found.get("format")) is not int or found["format"] < 1:
            raise BundleError("manifest.json has no format number, so this is not a bundle of scgpt-infer.")
        if found["format"] > FORMAT:
            raise BundleTooNewError(
                f"The bundle has format {found['format']}; this scgpt-infer reads formats up to {FORMAT}. "
                "Upgrade it: pip install -U scgpt-infer"
            )
        manifest: Self = decode(cls, found, "manifest.json")
        _check(manifest)
        if found.get("digest") != digest_of(found):
            raise BundleChangedError("manifest.json is not the one that was sealed. Take a fresh copy of the bundle.")
        return manifest


def vector_id(
    weights: str, vocabulary: str, pooling: str, tokenizer: TokenizerSettings, genes: str, precision: str
) -> str:
    """Id of all that can change a vector: two vectors are comparable exactly when their ids are equal.

    Parameters
    ----------
    weights
        `Manifest.weights`.
    vocabulary
        sha256 of the bundle's ``vocab.json``.
    pooling
        `Manifest.pooling`.
    tokenizer
        Settings that were in force, not those that were sealed.
    genes
        How names found their token: ``exact`` or ``alias``.
    precision
        ``fp32``, ``fp16``, ``bf16`` or ``int8``; for static int8, what `Manifest.arithmetic` makes of `STATIC`.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    told = {
        "contract": CONTRACT,
        "weights": weights,
        "vocabulary": vocabulary,
        "pooling": pooling,
        "tokenizer": _told(tokenizer),
        "genes": genes,
        "precision": precision,
    }
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _told(tokenizer: TokenizerSettings) -> dict[str, Any]:
    """Settings by name; without zeros they are told as before there was a choice, so that ids stay what they were."""
    told = asdict(tokenizer)
    return told if tokenizer.include_zeros else {name: told[name] for name in told if name != "include_zeros"}


def format_of(tokenizer: TokenizerSettings, modalities: Sequence[str] = ()) -> int:
    """Oldest format of a bundle with these settings and modalities."""
    if modalities:
        return _WITH_MODALITIES
    return _WITH_ZEROS if tokenizer.include_zeros else 1


def digest_of(told: dict[str, Any]) -> str:
    """sha256 of a manifest as JSON tells it, whatever its layout, without the field ``digest`` itself."""
    others = {name: value for name, value in told.items() if name != "digest"}
    canonical = json.dumps(others, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def inside(path: str) -> bool:
    """Whether a path of a manifest, archive or graph is relative, in plain form, and stays in its folder."""
    pure = PurePosixPath(path)
    odd = "\\" in path or ":" in path or "\0" in path
    return bool(path) and not odd and not pure.is_absolute() and ".." not in pure.parts and str(pure) == path != "."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _check(manifest: Manifest) -> None:
    """Contradictions that types cannot tell."""
    _check_tokenizer(manifest.tokenizer)
    if manifest.format < (least := format_of(manifest.tokenizer, manifest.modalities)):
        raise BundleError(f"The manifest has format {manifest.format}, and what it tells needs {least}.")
    _check_files(manifest)
    for graph in manifest.graphs:
        if graph.precision not in manifest.precisions:
            raise BundleError(f"Graph {graph.path} has precision {graph.precision}, which the manifest does not seal.")
    for precision in manifest.precisions:
        if precision not in PRECISIONS:
            raise BundleError(f"The manifest has precision {precision!r}; expected {_listed(PRECISIONS)}.")
    classes = (*manifest.precisions, *([STATIC] if manifest.calibration else []))
    if set(manifest.vector_ids) != set(classes):
        raise BundleError(
            f"The manifest seals {_listed(classes)} but has vector ids for {_listed(manifest.vector_ids)}."
        )
    if manifest.taught is not None and manifest.labels != tuple(found.label for found in manifest.taught.classes):
        raise BundleError("The manifest's labels are not the classes that its classifier was taught.")
    if manifest.dim < 1:
        raise BundleError(f"The manifest says that embeddings are {manifest.dim} wide.")


def _check_files(manifest: Manifest) -> None:
    names = [record.path for record in manifest.files]
    for name in (*names, *(graph.path for graph in manifest.graphs)):
        if not inside(name):
            raise BundleError(f"The manifest names {name!r}, which is not a plain path inside the bundle.")
    for record in manifest.files:
        if record.size < 0 or not re.fullmatch("[0-9a-f]{64}", record.sha256):
            raise BundleError(f"The manifest's size or sha256 of {record.path} is malformed.")
    if len(set(names)) != len(names) or "manifest.json" in names:
        raise BundleError("The manifest lists a file twice, or itself.")
    keys = [(graph.task, graph.precision, graph.dialect) for graph in manifest.graphs]
    if len(set(keys)) != len(keys):
        raise BundleError("The manifest has two graphs for one task, precision and dialect.")
    unlisted = sorted({graph.path for graph in manifest.graphs} - set(names))
    if names and unlisted:
        raise BundleError(f"The manifest has a graph at {unlisted[0]} but no size and sha256 of that file.")


def _check_tokenizer(settings: TokenizerSettings) -> None:
    if settings.max_length < 2:
        raise BundleError(f"max_length is {settings.max_length}; a cell has <cls> and at least one gene: 2 or more.")
    if not 0 <= settings.seed < 2**64:
        raise BundleError(f"seed is {settings.seed}; expected 0 to 2^64 - 1.")
    if min(settings.cls_id, settings.pad_id) < 0 or settings.cls_id == settings.pad_id:
        raise BundleError(f"<cls> has id {settings.cls_id} and <pad> {settings.pad_id}; expected two different ids.")
    if settings.value_style == "binned" and not 2 <= settings.n_bins <= 254:
        raise BundleError(f"n_bins is {settings.n_bins}; with mask and pad, codes of one byte hold 2 to 254 bins.")
    if settings.value_style == "binned" and settings.cls_value not in settings.levels:
        raise BundleError(f"The value of <cls> is {settings.cls_value}, which is none of the value levels.")


def _listed(names: Any) -> str:
    return ", ".join(names) or "none"
