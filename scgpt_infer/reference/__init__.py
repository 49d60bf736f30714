"""Reference mapping: labelled cells become an index on disk, and vectors get labels from their nearest cells.

Arrays and paths in, arrays out. It knows no model, no AnnData and no task.
"""

from pathlib import Path

from scgpt_infer.options import Precision
from scgpt_infer.reference.atlas import FILES, Atlas
from scgpt_infer.reference.building import KINDS, Kind, LabelledVectors, build, kind_for
from scgpt_infer.reference.exact import Neighbours
from scgpt_infer.reference.index import ReferenceIndex
from scgpt_infer.reference.labeller import Reference, ReferenceLabeller
from scgpt_infer.reference.manifest import FILE, IndexManifest, LeftOut, Origin, Recall
from scgpt_infer.reference.votes import WEIGHTS, Weights
from scgpt_runtime.errors import ReferenceIndexError

__all__ = [
    "KINDS",
    "WEIGHTS",
    "Atlas",
    "IndexManifest",
    "Kind",
    "LabelledVectors",
    "LeftOut",
    "Neighbours",
    "Origin",
    "Recall",
    "Reference",
    "ReferenceIndex",
    "ReferenceLabeller",
    "Weights",
    "build",
    "kind_for",
    "open_reference",
    "precision_of",
]


def open_reference(path: Path | str, cache_dir: Path | None = None) -> ReferenceIndex | Atlas:
    """Open an index of ours, or the folder of the original's atlas.

    Parameters
    ----------
    path
        A folder.
    cache_dir
        Where digests of checked files are remembered.

    Raises
    ------
    ReferenceIndexError
        It is neither, or cannot be opened.
    """
    path = Path(path)
    if not path.is_dir():
        raise ReferenceIndexError(
            f"{path} is not a folder; expected a reference index, which scgpt-infer index makes of labelled cells, or "
            f"scGPT's atlas folder ({', '.join(FILES)})."
        )
    if _is_atlas(path):
        return Atlas.open(path, cache_dir)
    return ReferenceIndex.open(path, cache_dir)


def precision_of(path: Path | str) -> Precision:
    """Precision that a model must run in to give vectors like those of a reference; ``auto`` where it is not known."""
    path = Path(path)
    return "auto" if _is_atlas(path) else IndexManifest.read(path).origin.precision


def _is_atlas(path: Path) -> bool:
    return not (path / FILE).exists() and (path / FILES[0]).exists()
