"""Cells of a group that is laid out as anndata lays out a file: X, layers, raw, obs, var, obsm, uns.

The group comes open, of HDF5 or zarr; nothing of its size is ever in memory. What file it is of, `GroupCells` does not
know.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.counts import choose
from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.elements import open_rows
from scgpt_infer.readers.frame import Frame
from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.names import INDEX, GeneNames, cell_text, no_column, texts
from scgpt_infer.readers.nodes import Group, is_array
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.source import Stored
from scgpt_infer.readers.stored import embedding
from scgpt_infer.readers.unchanged import Unchanged
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["CellTable", "GroupCells"]


class CellTable(Protocol):
    """The table of cells; see `scgpt_infer.readers.frame.Frame`."""

    @property
    def n_rows(self) -> int:
        """Number of cells."""
        ...

    @property
    def columns(self) -> list[str]:
        """Names of the columns, the index not among them."""
        ...

    @property
    def named(self) -> list[str]:
        """The name of the index, where it has one."""
        ...

    def column(self, name: str, start: int = 0, stop: int | None = None) -> list[str]:
        """Values of a column as text."""
        ...

    def table(self) -> Any:
        """All of it, a pandas DataFrame."""
        ...


class GroupCells:
    """A `CellSource` over a group.

    Parameters
    ----------
    path
        The file.
    group
        The group; it stays open until `close`.
    close
        Closes its file.
    where
        Name of the group in messages.
    layer
        The matrix to read, see `scgpt_infer.readers.open_cells`.
    threads, room
        Threads that inflate compressed values and memory for it, see `scgpt_infer.readers.open_cells`.
    of_file
        Gives the table of cells, made from that of the group, where the file says more of them.

    Raises
    ------
    CellsError
        If the group is not laid out so, is damaged, has no cells or genes, or nothing in it can be embedded.
    """

    def __init__(
        self,
        path: Path,
        group: Group,
        close: Callable[[], None],
        where: str,
        *,
        layer: str | None = None,
        threads: int | None = None,
        room: ReadingRoom = ROOM,
        of_file: Callable[[Frame], CellTable] = lambda obs: obs,
    ) -> None:
        self.path: Path | None = path
        self._same = Unchanged(path)
        self._group, self._close, self._where = group, close, where
        obs, var, raw_var = _tables(group, where)
        self._obs = of_file(obs)
        matrices = _matrices(group, where, obs, var, raw_var, (threads, room))
        with reading(where):
            logged = "uns/log1p" in group
        counts = choose(matrices, layer, logged, where)
        self._rows = counts.rows
        self.counts, self.values, self.why = counts.name, counts.values, counts.why
        self.n_cells, self.n_genes = counts.rows.shape
        genes = raw_var if counts.name == "raw/X" and raw_var is not None else var
        table = f"{'raw ' if genes is raw_var else ''}var of {where}"
        self.gene_names = GeneNames([*genes.columns, *genes.named], genes.column, table)
        self.cell_columns = tuple(name for name in self._obs.columns if name != INDEX)

    @property
    def rows(self) -> Rows:
        """The matrix that is read."""
        return self._rows

    @property
    def beside(self) -> tuple[Any, Any]:
        """``obsm`` and ``uns``, None where the file has none."""
        with reading(self._where):
            return self._group.get("obsm"), self._group.get("uns")

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column of var."""
        return self.gene_names.ask(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        names = self._obs.column(INDEX, start, stop)
        self._same.check()
        return names

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of obs as text."""
        if name not in (*self.cell_columns, *self._obs.named, INDEX):
            raise no_column(f"obs of {self._where}", name, self.cell_columns)
        return cell_text(self._obs.column(name))

    def cell_table(self) -> Any:
        """obs, a pandas DataFrame."""
        return self._obs.table()

    def stored(self, key: str) -> Stored | None:
        """The embedding of ours that ``obsm[key]`` holds."""
        with reading(self._where):
            obsm, uns = self._group.get("obsm"), self._group.get("uns")
        return embedding(obsm, uns, key, self.n_cells, self._where)

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows."""
        return matrix.blocks(self._rows, spans, self._same)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over the file."""
        return matrix.sample(self._rows, n)

    def close(self) -> None:
        """Close the file."""
        self._rows.close()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tables(group: Group, where: str) -> tuple[Frame, Frame, Frame | None]:
    with reading(where):
        parts = texts(group)
        raw = group.get("raw/var", group.get("raw.var"))
        tables = [group.get("obs"), group.get("var")]
    if any(table is None for table in tables):
        raise CellsError(
            f"{where} is not laid out as anndata does it: it holds {', '.join(parts) or 'nothing'}; expected X, obs "
            "and var. Convert it with scanpy."
        )
    obs, var = Frame(tables[0], f"obs of {where}"), Frame(tables[1], f"var of {where}")
    if obs.n_rows == 0 or var.n_rows == 0:
        raise CellsError(
            f"{where} has {obs.n_rows:,} cells and {var.n_rows:,} genes; there is nothing to embed. "
            "Check how the file was filtered."
        )
    return obs, var, None if raw is None else Frame(raw, f"raw var of {where}")


def _matrices(
    group: Group, where: str, obs: Frame, var: Frame, raw_var: Frame | None, how: tuple[int | None, ReadingRoom]
) -> dict[str, Callable[[], Rows]]:
    shape = (obs.n_rows, var.n_rows)
    with reading(where):
        found = {name: (group[name], shape) for name in ("X",) if name in group and not _is_null(group[name])}
        layers = group.get("layers", {})
        found |= {f"layers/{name}": (layers[name], shape) for name in layers}
        raw = group.get("raw/X", group.get("raw.X"))
        if raw is not None and raw_var is not None:
            found["raw/X"] = (raw, (obs.n_rows, raw_var.n_rows))
    return {
        name: partial(open_rows, element, f"{name} of {where}", expected, *how)
        for name, (element, expected) in found.items()
    }


def _is_null(element: Any) -> bool:
    return is_array(element) and (element.shape is None or element.attrs.get("encoding-type") == "null")
