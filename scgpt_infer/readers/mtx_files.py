"""The three files of a matrix in Matrix Market format: which they are, and what the two lists of names hold.

A folder or a file comes in; paths and names go out. It knows nothing of the matrix itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from scgpt_infer.readers.features import GENES
from scgpt_infer.readers.lines import Lines
from scgpt_infer.readers.members import MEMBERS
from scgpt_runtime.errors import CellsError

__all__ = ["MtxFiles", "find", "read_barcodes", "read_features"]

_MATRIX = re.compile(r"(?P<prefix>.*?)(matrix)?\.mtx(\.gz)?", re.IGNORECASE)
_FEATURES = re.compile(r"(?P<prefix>.*?)(features|genes)\.(tsv|txt)(\.gz)?", re.IGNORECASE)
_BARCODES = re.compile(r"(?P<prefix>.*?)(barcodes)\.(tsv|txt)(\.gz)?", re.IGNORECASE)
EXPECTED = "matrix.mtx, features.tsv or genes.tsv, and barcodes.tsv (each may end in .gz)"
# What Cell Ranger calls features; another word in the third column says something else of a gene.
TYPES = frozenset({GENES, "Antibody Capture", "CRISPR Guide Capture", "Multiplexing Capture", "Peaks", "Custom"})
SHOWN = 6


@dataclass(frozen=True, slots=True)
class MtxFiles:
    """Paths of the matrix, of its features (genes) and of its barcodes (cells)."""

    matrix: Path
    features: Path
    barcodes: Path


def find(path: Path) -> MtxFiles:
    """The files of one matrix.

    Parameters
    ----------
    path
        A folder that holds one set of files, or the matrix of a set.

    Raises
    ------
    CellsError
        If there is none, or more than one.
    """
    folder = path if path.is_dir() else path.parent
    try:
        every = {each.name for each in folder.iterdir() if each.is_file()}
    except OSError as error:
        raise CellsError(f"{folder} cannot be read: {error.strerror}. Check its permissions.") from error
    # A file beside its compressed self is one file.
    names = sorted(name for name in every if not (name.endswith(".gz") and name.removesuffix(".gz") in every))
    matrices = [name for name in names if _MATRIX.fullmatch(name)] if path.is_dir() else [path.name]
    if not matrices:
        raise CellsError(_none(folder, names))
    if len(matrices) > 1:
        raise CellsError(
            f"{folder} holds {len(matrices):,} matrices: {_listed(matrices)}; expected one. Name the one that is meant."
        )
    prefix = _prefix(_MATRIX, matrices[0])
    features, barcodes = (
        folder / _beside(kind, prefix, names, what, folder, matrices[0])
        for kind, what in ((_FEATURES, "features.tsv or genes.tsv"), (_BARCODES, "barcodes.tsv"))
    )
    return MtxFiles(folder / matrices[0], features, barcodes)


def read_features(path: Path) -> dict[str, list[str]]:
    """Names of the features by column: ``gene_ids``, ``gene_symbols``, and ``feature_types`` where 10x's stand there.

    A list of one column is both ids and symbols.
    """
    rows = [line.split("\t") for line in _texts(path, "a list of features (genes), one a line")]
    widths = [len(row) for row in rows]
    if rows and min(widths) != max(widths):
        line = next(i for i, width in enumerate(widths) if width != widths[0])
        raise CellsError(
            f"Line {line + 1:,} of {path} has {widths[line]:,} fields and the first one {widths[0]:,}; expected as "
            "many, separated by tabs. Write the file again."
        )
    columns = [[field.strip().strip('"') for field in column] for column in zip(*rows, strict=True)]
    features = {"gene_ids": columns[0], "gene_symbols": columns[1] if len(columns) > 1 else columns[0]}
    if len(columns) > 2 and TYPES.intersection(columns[2]):
        features["feature_types"] = columns[2]
    return features


def read_barcodes(path: Path) -> list[str]:
    """Names of the cells: the first column."""
    return [
        line.partition("\t")[0].strip().strip('"') for line in _texts(path, "a list of barcodes (cells), one a line")
    ]


def _texts(path: Path, expected: str) -> list[str]:
    """The lines of a file; blank ones at its end are none."""
    found: list[str] = []
    with Lines(path, expected) as lines:
        for block in lines.blocks():
            found += lines.text(block, block).removesuffix("\n").split("\n")
    while found and not found[-1].strip():
        found.pop()
    return found


def _prefix(kind: re.Pattern[str], name: str) -> str:
    found = kind.fullmatch(name)
    return found["prefix"].rstrip("._-") if found else ""


def _beside(kind: re.Pattern[str], prefix: str, names: list[str], what: str, folder: Path, matrix: str) -> str:
    """The file of a kind that belongs to a matrix: its prefix is that of the matrix, or as much of it as any has."""
    there = [name for name in names if kind.fullmatch(name) and prefix.startswith(_prefix(kind, name))]
    longest = max((len(_prefix(kind, name)) for name in there), default=0)
    fitting = [name for name in there if len(_prefix(kind, name)) == longest]
    if len(fitting) == 1:
        return fitting[0]
    raise CellsError(
        f"{matrix} needs one {what} (it may end in .gz) beside it, and {folder} holds {_listed(fitting or names)}. Put "
        "the three files of one sample into one folder, or begin their names alike."
    )


def _none(folder: Path, names: list[str]) -> str:
    below = sorted({each.parent.name for each in folder.glob("*/*") if _MATRIX.fullmatch(each.name)})
    if below:
        return f"{folder} holds no matrix, but folders in it do: {_listed(below)}. Name one of them."
    return (
        f"{folder} holds {_listed(names) or 'nothing'}; expected {EXPECTED}, or a set of files of cells "
        f"({', '.join(MEMBERS)}). Check the path."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
