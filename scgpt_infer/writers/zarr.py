"""``.zarr``: a store as anndata lays it out, version 3: ``obs``, ``var``, ``obsm[key]``, ``uns["scgpt_infer"]``; no X.

A chunk of vectors is a range of 1,024 rows, a shard a file of about 16 MB; rows wait in memory until a shard is full.
Names and further matrices are as in ``.h5ad``. Needs zarr, asked for before the first cell.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scgpt_infer.writers.copied import Copied
from scgpt_infer.writers.folder import Stage, staged
from scgpt_infer.writers.frames import add_array, add_group, quiet, source_file, write_root
from scgpt_infer.writers.h5ad_columns import facts_of, recorded, refuse_others, superseded
from scgpt_infer.writers.h5ad_former import IMPUTED, RECORD, record_name, table_facts
from scgpt_infer.writers.sink import Column, Part, Record, Sink, Target, matrix_of, output_errors, table_of

__all__ = ["bytes_needed", "check", "is_ours", "open_zarr"]

_MARK = "scgpt_infer_output"
"""Attribute of the root of a store that we wrote: its elements. Whoever writes the store anew drops it."""

_CHUNK_ROWS = 1024
_SHARD_BYTES = 16 << 20
_NAME_BYTES = 64
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}


def bytes_needed(target: Target) -> int:
    """Room for names and the result; a kept table of cells is taken to be as long as ten names."""
    kept = (target.n_cells + len(target.genes)) * _NAME_BYTES
    kept += 0 if target.source is None and target.obs is None else 10 * target.n_cells * _NAME_BYTES
    numbers = target.dim * (1 + len(target.matrices)) + sum(table.width for table in target.tables)
    rows = -(-target.n_cells // _CHUNK_ROWS) * _CHUNK_ROWS  # the last chunk is a whole one
    words = sum(len(word.encode()) + 32 for column in target.columns for word in column.words)
    return kept + rows * (numbers * target.itemsize + 4 * len(target.columns)) + words + (1 << 20)


def is_ours(folder: Path) -> bool:
    """Whether a folder is a store that we wrote, that nobody has written anew or added an element to."""
    try:
        attributes = json.loads((folder / "zarr.json").read_bytes()).get("attributes", {})
    except (OSError, ValueError):
        return False
    told = attributes.get(_MARK)
    return isinstance(told, list) and set(_elements(folder)) <= set(told) and (folder / "uns").is_dir()


def _elements(folder: Path) -> list[str]:
    """What a store holds, as ``obs``, ``obs/batch``."""
    found = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def check(target: Target) -> None:
    """Make sure that no column of another's would be replaced in the table that is kept.

    Raises
    ------
    OutputError
        One would.
    """
    if target.source is None or not target.columns:
        return
    with source_file(target.source) as source:
        told = source["obs"].attrs
        refuse_others(told.get("column-order", ()), _recorded(target), target, str(told.get("_index", "_index")))


@contextmanager
def open_zarr(target: Target) -> Iterator[Sink]:
    """Open a sink for a new store.

    Raises
    ------
    OutputError
        ``obs`` has columns of other people's under the names that are to be written.
    """
    import zarr

    with staged(target.path, is_ours) as stage, output_errors(target.path):
        copied = Copied.of(target)
        copied.check()
        root = zarr.open_group(stage.folder, mode="w", zarr_format=3)
        write_root(root, target)
        told = _recorded(target)
        copied.check()
        columns = _columns(root["obs"], target, told)
        sink = ZarrSink(target, stage, root, told)
        for name in ("", *target.matrices):
            sink.add(f"{target.key}_{name}" if name else target.key, root["obsm"], target.dim)
        for table in target.tables:
            sink.add(f"{target.key}_{table.name}", root["obsm"], table.width)
        sink.columns.update(columns)
        yield sink


@dataclass(slots=True)
class _Rows:
    """An array whose rows wait until a shard of them is there."""

    array: Any
    waiting: NDArray[Any]
    n_waiting: int = 0
    done: int = 0

    def add(self, rows: NDArray[Any]) -> None:
        while len(rows):
            taken = rows[: len(self.waiting) - self.n_waiting]
            self.waiting[self.n_waiting : self.n_waiting + len(taken)] = taken
            self.n_waiting += len(taken)
            rows = rows[len(taken) :]
            if self.n_waiting == len(self.waiting):
                self.write()

    def write(self) -> None:
        """Write what waits."""
        if self.n_waiting:
            self.array[self.done : self.done + self.n_waiting] = self.waiting[: self.n_waiting]
        self.done, self.n_waiting = self.done + self.n_waiting, 0


@dataclass(slots=True)
class ZarrSink:
    """Writes shards of rows."""

    target: Target
    stage: Stage
    root: Any
    told: list[str]
    matrices: dict[str, _Rows] = field(default_factory=dict)
    columns: dict[str, _Rows] = field(default_factory=dict)

    def add(self, name: str, obsm: Any, width: int) -> None:
        """Make room for a matrix."""
        n_cells, dtype = self.target.n_cells, np.dtype(self.target.dtype)
        chunk = max(1, min(_CHUNK_ROWS, n_cells))
        most = max(1, _SHARD_BYTES // (chunk * max(1, width) * dtype.itemsize))
        shard = chunk * max(1, min(most, -(-n_cells // chunk)))
        array = obsm.create_array(
            name,
            shape=(n_cells, width),
            dtype=dtype,
            chunks=(chunk, max(1, width)),
            shards=(shard, max(1, width)),
            compressors=None,  # unit vectors hardly compress
            attributes=_ARRAY,
        )
        self.matrices[name] = _Rows(array, np.empty((shard, width), dtype))

    def write(self, part: Part) -> None:
        """Take the next rows."""
        target = self.target
        found = {target.key: part.vectors}
        found |= {f"{target.key}_{name}": matrix_of(part, name) for name in target.matrices}
        found |= {f"{target.key}_{table.name}": table_of(part, table) for table in target.tables}
        with output_errors(target.path):
            for name, numbers in found.items():
                self.matrices[name].add(target.stored(numbers))
            for name, rows in self.columns.items():
                rows.add(part.columns[name])

    def commit(self, record: Record) -> None:
        """Write the last shards and the facts, and give the store its name."""
        from anndata.io import write_elem

        target = self.target
        with output_errors(target.path), quiet():
            for rows in (*self.matrices.values(), *self.columns.values()):
                rows.write()
            uns = self.root["uns"]
            names = [f"{target.prefix}{column.name}" for column in target.columns]
            facts = {**facts_of(self.root["obs"], [*self.told, *names]), **_table_facts(target)}
            write_elem(uns, record_name(target.kind), {**record, **facts})
            if target.features:
                write_elem(uns, f"{target.key}_genes", np.array(target.features, object))
            for table in target.tables:
                if table.features:
                    write_elem(uns, f"{target.key}_{table.name}_names", np.array(table.features, object))
            self.root.attrs[_MARK] = _elements(self.stage.folder)
            self.stage.publish()


def _columns(obs: Any, target: Target, told: list[str]) -> dict[str, _Rows]:
    """Room for columns of ours; those of an earlier run go where they told more of each cell."""
    index = str(obs.attrs["_index"])
    order = [name for name in obs.attrs["column-order"] if name != index]
    refuse_others(order, told, target, index)
    names = {f"{target.prefix}{column.name}": column for column in target.columns}
    for name in superseded(order, names, told):
        del obs[name]
        order.remove(name)
    rooms = {column.name: _column(obs, name, column, target.n_cells) for name, column in names.items()}
    obs.attrs["column-order"] = order + [name for name in names if name not in order]
    return rooms


def _column(obs: Any, name: str, column: Column, n_cells: int) -> _Rows:
    if name in obs:
        del obs[name]
    kind: DTypeLike = np.float32
    parent, key = obs, name
    if column.words:
        kind = np.min_scalar_type(-len(column.words))
        encoding = {"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False}
        parent, key = add_group(obs, name, encoding), "codes"
        text = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
        words = add_array(parent, "categories", (len(column.words),), str, text)
        words[:] = np.array(column.words, object)
    array = add_array(parent, key, (n_cells,), kind, _ARRAY)
    return _Rows(array, np.empty(array.chunks, kind))


def _recorded(target: Target) -> list[str]:
    """Columns of the source's ``obs`` that an earlier run wrote."""
    if target.source is None:
        return []
    with source_file(target.source) as source:
        names = [f"uns/{name}" for name in (RECORD, IMPUTED) if f"uns/{name}/obs_columns" in source]
        return [one for name in names for one in recorded({"obs_columns": _text(source[f"{name}/obs_columns"])})]


def _text(array: Any) -> str:
    found = array[()]
    return found.decode() if isinstance(found, bytes) else str(found)


def _table_facts(target: Target) -> Mapping[str, str | int | float]:
    return table_facts(target.key, [table.name for table in target.tables], ())
