"""What an index of reference cells says of itself: `IndexManifest`, to and from ``manifest.json``.

Plain data. It opens no other file and knows nothing of how neighbours are found.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from scgpt_infer.options import Precision
from scgpt_infer.reference.approximate import FaissOptions
from scgpt_runtime.decode import decode
from scgpt_runtime.errors import BundleError, ReferenceChangedError, ReferenceIndexError, ReferenceTooNewError
from scgpt_runtime.manifest import digest_of, inside
from scgpt_runtime.records import FileRecord

__all__ = ["FILE", "FORMAT", "METRIC", "IndexManifest", "LeftOut", "Origin", "Recall"]

FORMAT = 1
"""Newest format of an index that is read, and the one that is written."""

FILE = "manifest.json"
METRIC = "squared L2 of unit vectors"

Kind = Literal["exact", "hnsw", "ivfpq"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The model and the settings that made vectors.

    Attributes
    ----------
    model
        Its name, for people.
    vector_id
        Vectors can be compared exactly when it is equal.
    precision
        One that the model must run in to give such vectors.
    settings
        Others that are part of the id, for people who want to give them again.
    """

    model: str
    vector_id: str
    precision: Precision
    settings: dict[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Cells that are not in the index, by reason."""

    without_label: int = 0
    without_vector: int = 0


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the nearest cells approximate search finds, asked for cells of the reference.

    Attributes
    ----------
    k, queries
        Nearest cells of each query, and number of queries.
    share
        Found, of all.
    lost
        Queries that find less than half of theirs, of all: a mean over all may hide them.
    """

    k: int
    queries: int
    share: float
    lost: float


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """Everything that is to be known of an index before one of its arrays is read.

    Attributes
    ----------
    kind
        ``exact``: every cell is looked at; ``hnsw``, ``ivfpq``: faiss names candidates.
    origin
        What made the vectors.
    dim, n_cells
        Width and number of the vectors.
    label_column
        Column that the labels stood in.
    labels
        Their names, sorted; codes are places in it.
    counts
        Cells of each label.
    left_out
        Cells that had no label or no vector.
    faiss, recall
        Of an approximate index.
    version
        Version of scgpt-infer that wrote it.
    files
        All files but the manifest.
    metric
        What distances are.
    format
        Of the index.
    """

    kind: Kind
    origin: Origin
    dim: int
    n_cells: int
    label_column: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    left_out: LeftOut
    faiss: FaissOptions | None
    recall: Recall | None
    version: str
    files: tuple[FileRecord, ...] = ()
    metric: str = METRIC
    format: int = FORMAT

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(record.size for record in self.files)

    @property
    def digest(self) -> str:
        """sha256 of all that it says; it covers the sha256 of every file."""
        return digest_of(asdict(self))

    def to_json(self) -> str:
        """Text of ``manifest.json``: the same bytes for the same manifest."""
        told = asdict(self) | {"digest": self.digest}
        return json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of an index.

        Raises
        ------
        ReferenceIndexError
            There is none, or it cannot be read.
        ReferenceTooNewError
            Its format is newer than `FORMAT`.
        ReferenceChangedError
            It is not the one that was written.
        """
        path = folder / FILE
        found = _parsed(path)
        if found["format"] > FORMAT:
            raise ReferenceTooNewError(
                f"The reference index {folder} has format {found['format']}; this scgpt-infer reads formats up to "
                f"{FORMAT}. Upgrade it: pip install -U scgpt-infer"
            )
        try:
            manifest: Self = decode(cls, found, str(path))
        except BundleError as error:
            raise ReferenceIndexError(f"{error} Build the index anew: scgpt-infer index") from error
        if found.get("digest") != digest_of(found):
            raise ReferenceChangedError(f"{path} is not the one that was written. Take a fresh copy of the index.")
        if manifest.metric != METRIC or not all(inside(record.path) for record in manifest.files):
            raise ReferenceIndexError(f"{path} contradicts itself. Build the index anew: scgpt-infer index")
        return manifest


def _parsed(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReferenceIndexError(
            f"{path.parent} is not a reference index: it has no {FILE}. scgpt-infer index makes one of labelled cells."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ReferenceIndexError(f"{path} cannot be read: {error}. Take a fresh copy of the index.") from error
    if not isinstance(found, dict) or type(found.get("format")) is not int or "label_column" not in found:
        raise ReferenceIndexError(f"{path} is not that of a reference index. scgpt-infer index makes one.")
    return found
