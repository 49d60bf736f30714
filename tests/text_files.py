"""Cells written as text: tables and Matrix Market folders, in the ways that people and programs write them."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
from scipy import sparse

TYPE = "Gene Expression"


def put(path: Path, text: str | bytes) -> Path:
    """Write a file, compressed where its name ends so."""
    raw = text.encode() if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return path


def table(
    cells: ad.AnnData,
    *,
    by: str = "cells",
    delimiter: str = ",",
    corner: str | None = "",
    quote: str = "",
    number: str = "{:g}",
    end: str = "\n",
) -> str:
    """Cells as the text of a table, by cells or by genes; without a corner the first line has a name less."""
    matrix = sparse.csr_matrix(cells.X).toarray()
    side, top = (cells.obs_names, cells.var_names) if by == "cells" else (cells.var_names, cells.obs_names)
    quoted = [f"{quote}{name}{quote}" for name in top]
    lines = [quoted if corner is None else [f"{quote}{corner}{quote}", *quoted]]
    lines += [
        [f"{quote}{name}{quote}", *(number.format(value) for value in row)]
        for name, row in zip(side, matrix if by == "cells" else matrix.T, strict=True)
    ]
    return "".join(delimiter.join(line) + end for line in lines)


def market(entries: Sequence[tuple[int, int, object]], shape: tuple[int, int], kind: str = "integer") -> str:
    """The text of a Matrix Market file; places are from 0 here and from 1 there."""
    lines = [f"%%MatrixMarket matrix coordinate {kind} general", '%metadata_json: {"format_version": 2}']
    lines.append(f"{shape[0]} {shape[1]} {len(entries)}")
    lines += [f"{row + 1} {column + 1}" + ("" if kind == "pattern" else f" {value}") for row, column, value in entries]
    return "\n".join(lines) + "\n"


def genes_by_cells(cells: ad.AnnData, order: str = "cells") -> tuple[list[tuple[int, int, object]], tuple[int, int]]:
    """Entries of a matrix of genes by cells, sorted by its cells, by its genes, or backwards by cells."""
    rows = sparse.csr_matrix(cells.X)
    matrix = (rows.tocsc() if order == "genes" else rows).tocoo()
    places = zip(matrix.col.tolist(), matrix.row.tolist(), (f"{value:g}" for value in matrix.data), strict=True)
    entries: list[tuple[int, int, object]] = list(places)
    return entries[::-1] if order == "backwards" else entries, (cells.n_vars, cells.n_obs)


def write_mtx(
    folder: Path,
    cells: ad.AnnData,
    *,
    version: int = 3,
    prefix: str = "",
    order: str = "cells",
    matrix: str | None = None,
    types: Sequence[str] | None = None,
) -> Path:
    """Write a folder as Cell Ranger does: compressed with types of features (3), or plain and without (2)."""
    end = ".gz" if version == 3 else ""
    types = types or [TYPE] * cells.n_vars
    features = [
        "\t".join([identifier, symbol, *([kind] if version == 3 else [])])
        for identifier, symbol, kind in zip(cells.var_names, cells.var["feature_name"], types, strict=True)
    ]
    put(folder / f"{prefix}matrix.mtx{end}", matrix or market(*genes_by_cells(cells, order)))
    put(folder / f"{prefix}{'features' if version == 3 else 'genes'}.tsv{end}", "\n".join(features) + "\n")
    put(folder / f"{prefix}barcodes.tsv{end}", "\n".join(cells.obs_names) + "\n")
    return folder
