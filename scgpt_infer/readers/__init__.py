"""Cells in: what the user has, behind one `CellSource`.

A path is opened by its suffix, an AnnData object as it is. To add a format, write one module with
a class of the shape of `CellSource` and enter it in `READERS`; nothing else changes. No format is
imported before it is needed.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from scgpt_infer.readers.source import CellSource
from scgpt_runtime.errors import CellsError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["READERS", "CellSource", "open_cells"]

# Suffix to (module, class); the class takes (path, *, layer, threads).
READERS: dict[str, tuple[str, str]] = {
    ".h5ad": ("scgpt_infer.readers.h5ad", "H5adCells"),
}


def open_cells(cells: "AnnData | Path | str", *, layer: str | None = None, threads: int | None = None) -> CellSource:
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

    Raises
    ------
    CellsError
        If there is no such file, format or layer, or nothing in it that can be embedded.
    """
    if not isinstance(cells, (str, Path)):
        from scgpt_infer.readers.memory import AnnDataCells  # it imports anndata, which a path may not need

        return AnnDataCells(cells, layer=layer)
    path = Path(cells)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise CellsError(
            f"{path} has the suffix {suffix or '(none)'!r}; known formats of cells are {', '.join(sorted(READERS))}. "
            "Convert the file, for example with scanpy."
        )
    if not path.exists():
        raise CellsError(f"There is no file {path}. Check the path.")
    module, name = READERS[suffix]
    source: CellSource = getattr(import_module(module), name)(path, layer=layer, threads=threads)
    return source
