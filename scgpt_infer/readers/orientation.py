"""Which side of a table names genes, told by the names alone.

The names along the top and those down the side come in; where the cells are, and why, goes out. What a gene is called
is known from Ensembl's pattern and the symbols of human genes that ship beside this file; mouse symbols are those in
small letters. It knows no files and no vocabularies.
"""

import gzip
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from scgpt_infer.readers.source import CellsIn
from scgpt_runtime.errors import CellsError

__all__ = ["SYMBOLS", "gene_share", "orient"]

SYMBOLS: Final = Path(__file__).with_name("symbols.txt.gz")
"""Approved symbols of protein-coding genes, of HGNC (CC0); `scripts/build_gene_table.py` writes it."""

# Where genes are named, the least share seen is 0.52, of a file with all genes of GENCODE; of cells' names it is 0.
GENE_SHARE = 0.1
# Names that are looked at, spread evenly.
LOOKED_AT = 10_000
SHOWN = 3
_ENSEMBL = re.compile(r"ENS[A-Z]{0,5}G\d{11}(\.\d+)?")


def orient(top: Sequence[str], side: Sequence[str], told: CellsIn | None, where: str) -> tuple[CellsIn, str]:
    """Where the cells of a table are, and why in words.

    Parameters
    ----------
    top
        Names of the columns.
    side
        Names of the rows.
    told
        What the user says, which is not doubted.
    where
        Name of the table in messages.

    Raises
    ------
    CellsError
        If the names do not tell, and nobody else does.
    """
    if told is not None:
        return told, f"its cells are in {told}, as it was told"
    shares = gene_share(top), gene_share(side)
    genes = [share >= GENE_SHARE for share in shares]
    if genes == [True, False]:
        return "rows", f"its cells are in rows: of the names in its first line {shares[0]:.0%} are genes"
    if genes == [False, True]:
        return "columns", f"its cells are in columns: of the names in its first column {shares[1]:.0%} are genes"
    raise CellsError(
        f"{where} does not tell whether its cells are in rows or in columns: {'both' if genes[0] else 'neither'} the "
        f"names in its first line ({_shown(top)}) {'and' if genes[0] else 'nor'} those in its first column "
        f"({_shown(side)}) look like human gene symbols or Ensembl ids. Say it: --cells-in rows or "
        "--cells-in columns (cells_in=)."
    )


def gene_share(names: Sequence[str]) -> float:
    """Share of names that are Ensembl ids of genes or symbols of protein-coding genes, of man or mouse."""
    looked_at = names[:: max(1, len(names) // LOOKED_AT)]
    symbols = _symbols()
    hits = sum(name.upper() in symbols or _ENSEMBL.fullmatch(name) is not None for name in looked_at)
    return hits / max(1, len(looked_at))


@cache
def _symbols() -> frozenset[str]:
    with gzip.open(SYMBOLS, "rt", encoding="ascii") as lines:
        return frozenset(line.strip().upper() for line in lines)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
