"""Which features of a 10x matrix are its genes, and the matrix without the others.

Columns of the table of features come in, those of the genes go out with the reason. It knows nothing of files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.room import Weighed
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["GENES", "Genes", "SomeColumns", "all_of", "genes_of"]

GENES = "Gene Expression"
"""What 10x calls the features that are genes."""


@dataclass(frozen=True, slots=True)
class Genes:
    """The features that are read.

    Attributes
    ----------
    columns
        (n_genes,) where they are in the matrix, ascending.
    table
        What is said of them, by the name of the column.
    why
        What was left out, in words that follow others; empty where nothing was.
    """

    columns: NDArray[np.int64]
    table: Mapping[str, Sequence[str]]
    why: str


def all_of(features: Mapping[str, Sequence[str]]) -> Genes:
    """All features, of whatever type."""
    return Genes(np.arange(len(features["gene_ids"])), features, "")


def genes_of(features: Mapping[str, Sequence[str]], modality: str | None, where: str) -> Genes:
    """Choose the features of one type, and of one genome where those are genes.

    Parameters
    ----------
    features
        The table: ``gene_ids`` and ``gene_symbols``; ``feature_types`` and ``genome`` where the file has them.
    modality
        A type of features or a genome, where the user asks for one; None takes the genes.
    where
        Name of the file in messages.

    Raises
    ------
    CellsError
        If no feature is of that type or genome, or the genes are of several genomes and none was asked for.
    """
    n_features = len(features["gene_ids"])
    types = np.array(features.get("feature_types", [GENES] * n_features), np.str_)
    genomes = np.array(features.get("genome", [""] * n_features), np.str_)
    # Genes alone are of a genome; of peaks too it is said, but they are never of interest by it.
    of_genes = sorted({str(genome) for genome in genomes[types == GENES]} - {""})
    kind, genome = _asked(modality, sorted(set(types.tolist())), of_genes, where)
    taken = types == kind
    if genome is not None:
        taken &= genomes == genome
    elif kind == GENES and len(of_genes) > 1:
        raise CellsError(f"{where} has genes of several genomes: {', '.join(of_genes)}. Choose one (--modality).")
    columns = np.flatnonzero(taken)
    table = {name: [column[i] for i in columns.tolist()] for name, column in features.items()}
    if genome is not None and len(of_genes) > 1:
        for name in ("gene_ids", "gene_symbols"):
            table[name] = [_without(genome, text) for text in table[name]]
    return Genes(columns, table, _left_out(types[~taken], genomes[~taken], kind))


def _asked(modality: str | None, types: list[str], genomes: list[str], where: str) -> tuple[str, str | None]:
    """The type of features that is meant, and the genome where that is what was asked for."""
    wanted = (GENES if modality is None else modality).lower()
    for kind in types:
        if kind.lower() == wanted:
            return kind, None
    for genome in genomes:
        if genome.lower() == wanted:
            return GENES, genome
    there = ", ".join([*types, *genomes])
    if modality is None:
        raise CellsError(f"{where} has no features of the type {GENES}; it has {there}. Choose one (--modality).")
    raise CellsError(f"{where} has no features of {modality!r}; it has {there}. Choose one of them (--modality).")


def _without(genome: str, text: str) -> str:
    """A name without its genome, which files of several genomes put before it: ``GRCh38_CD3D``, ``mm10___Cd3d``."""
    return text.removeprefix(genome).lstrip("_") if text.startswith(f"{genome}_") else text


def _left_out(types: NDArray[np.str_], genomes: NDArray[np.str_], kind: str) -> str:
    counts = Counter(
        genome if each == kind else each for each, genome in zip(types.tolist(), genomes.tolist(), strict=True)
    )
    return "without " + ", ".join(f"{n:,} of {name}" for name, n in counts.items()) if counts else ""


class SomeColumns:
    """Rows of a matrix without some of its columns.

    Parameters
    ----------
    rows
        The matrix.
    columns
        The columns that stay, ascending.
    """

    def __init__(self, rows: Rows, columns: NDArray[np.int64]) -> None:
        self.shape = (rows.shape[0], len(columns))
        self._rows = rows
        # Where each column goes; the last place is of indices outside the matrix, which stay so: -1.
        self._places = np.full(rows.shape[1] + 1, -2, np.int32)
        self._places[columns] = np.arange(len(columns), dtype=np.int32)
        self._places[-1] = -1

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``."""
        block = self._rows.read(start, stop)
        outside = (block.indices < 0) | (block.indices >= self._rows.shape[1])
        indices = self._places[np.where(outside, self._rows.shape[1], block.indices)]
        stays = indices != -2
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(stays, dtype=np.int64)])
        return CellBlock(before[block.indptr], indices[stays], block.data[stays], start)

    def weight(self, n_rows: int, widest: int) -> int:
        """Most bytes that come up while rows are read; see `scgpt_infer.readers.room.Weighed`."""
        told = self._rows.weight(n_rows, self._rows.shape[1]) if isinstance(self._rows, Weighed) else 0
        return 9 * told // 2  # where each of all values goes, and those that stay, beside what is read

    def close(self) -> None:
        """Close the matrix."""
        self._rows.close()
