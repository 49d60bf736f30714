"""Cells in: what the user has, behind one `CellSource`.

A path is opened by its suffix, the longest that fits, an AnnData object as it is. To add a format, write one
module with a class of the shape of `CellSource`, or a function that gives one, and enter it in `READERS`; nothing
else changes. No format is imported before it is needed.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from scgpt_infer.readers.source import CellSource
from scgpt_runtime.errors import CellsError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["READERS", "CellSource", "open_cells"]

# Suffix to (module, function or class), which takes (path, *, layer, threads), and modality where one can be chosen.
READERS: dict[str, tuple[str, str]] = {
    ".h5ad": ("scgpt_infer.readers.h5ad", "open_h5ad"),
}

# A folder whose name has none of these suffixes.
FOLDER: tuple[str, str] | None = None
# Suffixes of formats that may hold several modalities.
WITH_MODALITIES: frozenset[str] = frozenset()


def open_cells(
    cells: "AnnData | Path | str",
    *,
    layer: str | None = None,
    threads: int | None = None,
    modality: str | None = None,
) -> CellSource:
    """Open cells for reading by row ranges; close the source when done, or use it in a ``with``.

    Parameters
    ----------
    cells
        A file whose suffix is one of `READERS`, or an AnnData object (in memory, backed, or a view
        of one), which is never changed.
    layer
        The matrix to read: ``"X"``, ``"raw"`` or the name of a layer. None takes ``layers["counts"]``,
        else ``X``, else, where ``X`` is scaled, ``raw``.
    threads
        Threads that inflate a file's compressed values; None takes the cores that this process may use. What
        is read does not depend on it.
    modality
        The modality to read of a file that holds several; None takes the one of RNA.

    Raises
    ------
    CellsError
        If there is no such file, format, layer or modality, or nothing in it that can be embedded.
    """
    if not isinstance(cells, (str, Path)):
        from scgpt_infer.readers.memory import AnnDataCells  # it imports anndata, which a path may not need

        _refuse("The AnnData object", modality)
        return AnnDataCells(cells, layer=layer)
    path = Path(cells)
    suffix = max((known for known in READERS if path.name.lower().endswith(known)), key=len, default="")
    reader = READERS[suffix] if suffix else FOLDER if path.is_dir() else None
    if reader is None:
        raise CellsError(
            f"{path} has the suffix {path.suffix.lower() or '(none)'!r}; known formats of cells are "
            f"{', '.join(sorted(READERS))}. Convert the file, for example with scanpy."
        )
    if not path.exists():
        raise CellsError(f"There is no file {path}. Check the path.")
    chosen = {"modality": modality} if suffix in WITH_MODALITIES else {}
    if not chosen:
        _refuse(str(path), modality)
    source: CellSource = getattr(import_module(reader[0]), reader[1])(path, layer=layer, threads=threads, **chosen)
    return source


def _refuse(where: str, modality: str | None) -> None:
    if modality is not None:
        raise CellsError(f"{where} has no modalities, and {modality!r} was asked for. Leave the modality out.")
