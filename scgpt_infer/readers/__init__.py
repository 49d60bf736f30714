"""Cells in: what the user has, behind one `CellSource`.

A path is opened by its suffix, the longest that fits, an AnnData object as it is, several paths as one data set. To add
a format, write one module with a class of the shape of `CellSource`, or a function that gives one, and enter it in
`READERS`; nothing else changes. No format is imported before it is needed.
"""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from scgpt_infer.readers.members import folder_of, members
from scgpt_infer.readers.places import place_of
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.source import CellPaths, CellsIn, CellSource, are_paths, refuse_modality
from scgpt_runtime.errors import CellsError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["READERS", "CellSource", "open_cells"]

# Suffix to (module, function or class), which takes (path, *, layer, threads, room), and modality and cells_in where
# these can be chosen.
READERS: dict[str, tuple[str, str]] = {
    ".csv": ("scgpt_infer.readers.table", "open_table"),
    ".csv.gz": ("scgpt_infer.readers.table", "open_table"),
    ".h5": ("scgpt_infer.readers.tenx_h5", "open_h5"),
    ".h5ad": ("scgpt_infer.readers.h5ad", "open_h5ad"),
    ".h5mu": ("scgpt_infer.readers.h5mu", "open_h5mu"),
    ".mtx": ("scgpt_infer.readers.mtx", "open_mtx"),
    ".mtx.gz": ("scgpt_infer.readers.mtx", "open_mtx"),
    ".tsv": ("scgpt_infer.readers.table", "open_table"),
    ".tsv.gz": ("scgpt_infer.readers.table", "open_table"),
    ".txt": ("scgpt_infer.readers.table", "open_table"),
    ".txt.gz": ("scgpt_infer.readers.table", "open_table"),
    ".zarr": ("scgpt_infer.readers.zarr", "open_zarr"),
    ".zarr.zip": ("scgpt_infer.readers.zarr", "open_zarr"),
}

# A folder whose name has none of these suffixes.
FOLDER = ("scgpt_infer.readers.mtx", "open_mtx")
# Suffixes, a folder's being "", of formats that may hold several modalities, and of those that may not tell cells
# from genes.
WITH_MODALITIES = frozenset({"", ".h5", ".h5mu", ".mtx", ".mtx.gz", ".zarr", ".zarr.zip"})
WITH_CELLS_IN = frozenset({"", ".csv", ".csv.gz", ".mtx", ".mtx.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz"})


def open_cells(
    cells: "AnnData | CellPaths",
    *,
    layer: str | None = None,
    threads: int | None = None,
    modality: str | None = None,
    cells_in: CellsIn | None = None,
    room: ReadingRoom = ROOM,
    strict: bool = False,
    where: str | None = None,
    organism: str | None = None,
) -> CellSource:
    """Open cells for reading by row ranges; close the source when done, or use it in a ``with``.

    Parameters
    ----------
    cells
        A file whose suffix is one of `READERS`, a folder with a ``matrix.mtx``, a TileDB-SOMA experiment (its folder or
        address) or ``census:RELEASE``, or an AnnData object (in memory, backed, or a view of one), which is never
        changed. Several files are one data set (`scgpt_infer.readers.files`): a list of them, a folder of them, or a
        pattern such as ``"cells/*.h5ad"``.
    layer
        The matrix to read: ``"X"``, ``"raw"`` or the name of a layer. None takes ``layers["counts"]``,
        else ``X``, else, where ``X`` is scaled, ``raw``.
    threads
        Threads that inflate a file's compressed values; None takes the cores that this process may use. What
        is read does not depend on it.
    modality
        The modality to read of a file that holds several; None takes the one of RNA.
    cells_in
        Whether the rows or the columns of a text file are cells; None recognises it by the gene names, or by the
        lengths of the lists of names beside an ``.mtx`` file.
    room
        Memory that reading a file may take. What is read does not depend on it.
    strict
        Whether a file of several that cannot be read is an error. Otherwise it is left out and listed.
    where
        Of an experiment, which cells are read: a filter of ``obs`` such as ``"cell_type == 'B cell'"``.
    organism
        Of a release or copy of the Census, the experiment that is read; None takes ``homo_sapiens``.

    Raises
    ------
    CellsError
        If there is no such file, format, layer or modality, or nothing in it that can be embedded.
    """
    if not are_paths(cells):
        from scgpt_infer.readers.memory import AnnDataCells  # it imports anndata, which a path may not need

        refuse_modality("The AnnData object", modality)
        _refuse_query("The AnnData object", where, organism)
        _refuse_cells_in("The AnnData object", cells_in)
        return AnnDataCells(cells, layer=layer)
    opened = partial(
        _open,
        layer=layer,
        threads=threads,
        modality=modality,
        cells_in=cells_in,
        where=where,
        organism=organism,
    )
    paths = members(cells)
    if len(paths) == 1:
        return opened(paths[0], room=room)
    from scgpt_infer.readers.files import open_files
    from scgpt_infer.readers.kept_open import KEPT

    return open_files(paths, partial(opened, room=room.among(KEPT)), path=folder_of(cells), strict=strict)


def _open(
    path: Path,
    *,
    layer: str | None,
    threads: int | None,
    modality: str | None,
    cells_in: CellsIn | None,
    room: ReadingRoom,
    where: str | None,
    organism: str | None,
) -> CellSource:
    if place := place_of(path):
        from scgpt_infer.readers.soma import open_soma

        _refuse_cells_in(str(place), cells_in)
        return open_soma(
            place, layer=layer, threads=threads, modality=modality, where=where, organism=organism, room=room
        )
    _refuse_query(str(path), where, organism)
    suffix = _suffix(path)
    reader = READERS[suffix] if suffix else FOLDER if path.is_dir() else None
    if reader is None:
        raise CellsError(
            f"{path} has the suffix {path.suffix.lower() or '(none)'!r}; known formats of cells are "
            f"{', '.join(sorted(READERS))}, and folders with a matrix.mtx. Convert the file, for example with scanpy."
        )
    if not path.exists():
        raise CellsError(f"There is no file {path}. Check the path.")
    chosen: dict[str, str | None] = {}
    if suffix in WITH_MODALITIES:
        chosen["modality"] = modality
    else:
        refuse_modality(str(path), modality)
    if suffix in WITH_CELLS_IN:
        chosen["cells_in"] = cells_in
    else:
        _refuse_cells_in(str(path), cells_in)
    source: CellSource = getattr(import_module(reader[0]), reader[1])(
        path, layer=layer, threads=threads, room=room, **chosen
    )
    return source


def _refuse_cells_in(where: str, cells_in: str | None) -> None:
    if cells_in is not None:
        raise CellsError(f"{where} has its cells in rows always, and cells_in is for tables of text. Leave it out.")


def _refuse_query(cells: str, where: str | None, organism: str | None) -> None:
    for name, value in (("where", where), ("organism", organism)):
        if value is not None:
            raise CellsError(
                f"{cells} is no SOMA experiment, and --{name} ({name}) is for those. Leave it out, or name an "
                "experiment or a release of the Census."
            )


def _suffix(path: Path) -> str:
    """The longest suffix of a known format; nothing where there is none."""
    suffix = max((known for known in READERS if path.name.lower().endswith(known)), key=len, default="")
    # A store in a store, as SpatialData has its tables, has a name without a suffix.
    is_zarr = not suffix and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))
    return ".zarr" if is_zarr else suffix
