"""``.h5ad``: the input file plus ``obsm[key]``, columns of ``obs`` and ``uns["scgpt_infer"]``, the rest as it was.

The input is copied beside the final name, the result is added to the copy, and the copy takes the name: so
adding to the input file itself is safe as well. Rows go to the disk as they come. Further matrices lie in ``obsm`` as
``key_NAME``; the names of what they tell in ``uns[key_genes]``, or ``uns[key_NAME_names]`` for a table of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scgpt_infer.writers.copied import Copied
from scgpt_infer.writers.frames import write_root
from scgpt_infer.writers.h5ad_columns import check_columns, column_facts, column_rooms
from scgpt_infer.writers.h5ad_copy import copy_first_cells, copy_whole, copy_without_matrices
from scgpt_infer.writers.h5ad_former import IMPUTED, RECORD, former, record_name, table_facts, told_tables
from scgpt_infer.writers.h5ad_room import reserve, room
from scgpt_infer.writers.sink import Part, Record, Sink, Target, beside, matrix_of, output_errors, sync, table_of
from scgpt_runtime.errors import OutputError

__all__ = ["IMPUTED", "RECORD", "bytes_needed", "check", "held", "holds_parts", "open_h5ad", "record_name"]

_NAME_BYTES = 64  # where it lies, and its letters


def bytes_needed(target: Target) -> int:
    """Room for the copy, or the names without one, and the result."""
    source = _file(target)
    if source is None:
        kept = (target.n_cells + len(target.genes)) * _NAME_BYTES
    else:
        kept = source.stat().st_size - (_matrix_bytes(source) if target.obs_only else 0)
    columns = len(target.columns) * target.n_cells * 4
    words = sum(len(word.encode()) + 32 for column in target.columns for word in column.words)
    features = sum(len(name.encode()) + 32 for name in target.features)
    matrices = target.n_cells * target.dim * target.itemsize * (1 + len(target.matrices))
    tables = sum(target.itemsize * target.n_cells * one.width + 64 * len(one.features) for one in target.tables)
    return kept + matrices + columns + words + features + tables + 65536


def check(target: Target) -> None:
    """Make sure that the file that is copied can take the result.

    Raises
    ------
    OutputError
        It is of an old layout, or columns of another's have the names of ours.
    """
    path = _file(target)
    if path is not None:
        with h5py.File(path, "r") as source:
            _refuse_old_format(source, path)
            check_columns(source, target)


def held(path: Path, key: str) -> tuple[bool, str | None]:
    """Whether a file's ``obsm`` has a key, and the key that our record in it names."""
    with h5py.File(path, "r") as file:
        obsm = file.get("obsm")
        taken = isinstance(obsm, h5py.Group) and key in obsm
        named = [_text(file.get(f"uns/{name}/key")) for name in (RECORD, IMPUTED)]
        return taken, key if key in named else next((name for name in named if name), None)


def holds_parts(path: Path, sha256: str) -> bool:
    """Whether a file's record of ours says that all parts of this digest are in it."""
    with h5py.File(path, "r") as file:
        return sha256 in [_text(file.get(f"uns/{name}/parts_sha256")) for name in (RECORD, IMPUTED)]


def _text(element: Any) -> str | None:
    """A text of a file; None for anything else."""
    if not isinstance(element, h5py.Dataset) or h5py.check_string_dtype(element.dtype) is None:
        return None
    return str(element.asstr()[()])


@contextmanager
def open_h5ad(target: Target) -> Iterator[Sink]:
    """Open a sink that adds the embedding to a copy of the source."""
    copied = Copied.of(target)
    with beside(target.path) as temporary:
        with _h5_errors(target.path):
            copied.check()
            _copy(target, temporary)
            copied.check()
            file = h5py.File(temporary, "r+", locking=False)  # ours alone; some network disks have no locks
        try:
            with _h5_errors(target.path):
                _remove_former(file, target)
                dataset, *others = [_matrix(file, target, name) for name in ("", *target.matrices)]
                matrices = dict(zip(target.matrices, others, strict=True))
                tables = {one.name: _matrix(file, target, one.name, one.width) for one in target.tables}
                columns = column_rooms(file, target)
                for each in (dataset, *others, *tables.values(), *columns.values()):
                    reserve(file, each, temporary)
            yield H5adSink(target, temporary, file, dataset, matrices, tables, columns, copied)
        finally:
            with suppress(OSError, RuntimeError):  # after a failed write, closing fails in the same way
                file.close()


@dataclass(frozen=True, slots=True)
class H5adSink:
    """Writes row ranges into the embedding's dataset and those of the columns."""

    target: Target
    temporary: Path
    file: Any
    dataset: Any
    matrices: dict[str, Any]
    tables: dict[str, Any]
    columns: dict[str, Any]
    copied: Copied

    def write(self, part: Part) -> None:
        """Take the next rows."""
        with _h5_errors(self.target.path):
            rows = slice(part.first_row, part.first_row + part.n_cells)
            self.dataset[rows] = self.target.stored(part.vectors)
            for name, dataset in self.matrices.items():
                dataset[rows] = self.target.stored(matrix_of(part, name))
            for table in self.target.tables:
                self.tables[table.name][rows] = self.target.stored(table_of(part, table))
            for name, dataset in self.columns.items():
                dataset[rows] = part.columns[name]

    def commit(self, record: Record) -> None:
        """Write ``uns["scgpt_infer"]``, close the copy and give it its name."""
        from anndata.io import write_elem

        if self.copied.is_in_place:
            self.copied.check()  # and again when all is written: closing and syncing take long
        with _h5_errors(self.target.path):
            if "uns" not in self.file:
                write_elem(self.file, "uns", {})
            uns, target = self.file["uns"], self.target
            name, tables = record_name(target.kind), [one.name for one in target.tables]
            facts = table_facts(target.key, tables, told_tables(self.file, name))
            write_elem(uns, name, {**record, **column_facts(self.file, target), **facts})
            if target.features:
                write_elem(uns, f"{target.key}_genes", np.array(target.features, object))
            for one in target.tables:
                if one.features:
                    write_elem(uns, f"{target.key}_{one.name}_names", np.array(one.features, object))
            self.file.close()
            sync(self.temporary, self.target.path, self.copied.check if self.copied.is_in_place else None)


def _remove_former(file: Any, target: Target) -> None:
    """Take away what an earlier run wrote beside the vectors that are replaced."""
    told, tables = told_tables(file, record_name(target.kind)), [one.name for one in target.tables]
    for name in former(file.get("obsm", ()), target.key, target.kind, target.matrices, tables, told):
        del file["obsm"][name]
        if f"{name}_names" in file.get("uns", ()):
            del file["uns"][f"{name}_names"]


def _copy(target: Target, temporary: Path) -> None:
    path = _file(target)
    if path is None:
        with h5py.File(temporary, "w", locking=False) as file:
            write_root(file, target)
        return
    check(target)
    with h5py.File(path, "r") as source:
        n_cells = _n_obs(source)
    if target.n_cells < n_cells:
        copy_first_cells(path, temporary, target.n_cells, matrices=not target.obs_only)
    elif target.obs_only:
        copy_without_matrices(path, temporary)
    else:
        copy_whole(path, temporary)


def _file(target: Target) -> Path | None:
    """The file that is copied; of a source in another layout, tables are."""
    source = target.source
    return source if source is not None and source.suffix.lower() == ".h5ad" else None


def _refuse_old_format(source: Any, path: Path) -> None:
    for name in ("obs", "obsm", "uns"):
        if name in source and not isinstance(source[name], h5py.Group):
            raise OutputError(
                f"{path} stores {name} in the format of anndata before 0.7, which cannot be added to. Write it anew "
                "with anndata.read_h5ad(...).write_h5ad(...), or write the embedding to .parquet or .npy."
            )


def _n_obs(source: Any) -> int:
    obs = source["obs"]
    index = obs[obs.attrs.get("_index", "_index")]
    # Names may be stored in a group: as categories with a code each, or as text that may be missing.
    return len(index if isinstance(index, h5py.Dataset) else index["codes" if "codes" in index else "values"])


def _matrix(file: Any, target: Target, name: str, width: int | None = None) -> Any:
    """The dataset of the vectors, or of a further matrix, anndata's attributes on it; an older one is replaced."""
    from anndata.io import write_elem

    if "obsm" not in file:
        write_elem(file, "obsm", {})
    key = f"{target.key}_{name}" if name else target.key
    return room(file["obsm"], key, (target.n_cells, width or target.dim), target.dtype)


@contextmanager
def _h5_errors(final: Path) -> Iterator[None]:
    """As `output_errors`; HDF5 reports a failed flush as RuntimeError."""
    with output_errors(final):
        try:
            yield
        except RuntimeError as error:
            raise OSError(str(error)) from error


def _matrix_bytes(source: Path) -> int:
    total = 0

    def add(name: str, element: Any) -> None:
        nonlocal total
        if isinstance(element, h5py.Dataset) and name.split("/")[0] in ("X", "layers", "raw", "obsp", "varp"):
            total += element.id.get_storage_size()

    with h5py.File(source, "r") as file:
        file.visititems(add)
    return total
