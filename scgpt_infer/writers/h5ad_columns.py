"""Columns of ``obs`` in an h5ad file: room for values of ours, beside columns of the user's that are never replaced.

Ours are those whose names begin with ``scgpt_``, and those that the record of an earlier run names.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.h5ad_room import room
from scgpt_infer.writers.sink import Column, Record, Target
from scgpt_runtime.errors import OutputError

__all__ = ["check_columns", "column_facts", "column_rooms", "facts_of", "recorded", "refuse_others", "superseded"]

_OURS = "scgpt_"
_FACT = "obs_columns"
_RECORD = f"uns/scgpt_infer/{_FACT}"
_ORDER = "column-order"


def check_columns(file: Any, target: Target) -> None:
    """As `refuse_others` for the ``obs`` of an open file."""
    refuse_others(file["obs"], _recorded(file), target, _index(file["obs"]))


def refuse_others(there: Iterable[str], recorded: Iterable[str], target: Target, index: str = "_index") -> None:
    """Make sure that no column of the user's would be replaced.

    Parameters
    ----------
    there
        Names of the columns of ``obs``.
    recorded
        Those of them that the record of an earlier run names.
    target
        Which columns shall be written.
    index
        What the names of the cells are stored as.

    Raises
    ------
    OutputError
        When one that is not ours has the name of one to be written, or no column can have such a name.
    """
    names = _names(target)
    others = {name for name in there if not _is_ours(name, recorded)} | {index}
    taken = [name for name in names if name in others]
    if taken:
        raise OutputError(
            f"obs already has {', '.join(taken)}, which scgpt-infer did not write. Give another prefix (--prefix, "
            f"prefix=...), such as {_OURS}, or remove what has the name from the cells first."
        )
    if any("/" in name for name in names):
        raise OutputError(f"{target.prefix!r} cannot begin the name of a column: .h5ad knows no names with a slash.")


def column_rooms(file: Any, target: Target) -> dict[str, Any]:
    """A dataset for each column of a target, by the column's name; rows are written into it.

    Columns of ours from an earlier run that told more of each cell, such as more candidates, are removed.
    """
    if not target.columns:
        return {}
    check_columns(file, target)
    obs, names = file["obs"], _names(target)
    for name in superseded(set(obs) - {_index(obs)}, names, _recorded(file)):
        del obs[name]
    rooms = {column.name: _room(obs, name, column, target.n_cells) for name, column in names.items()}
    before = _order(obs)
    order = [name for name in before if name in obs] + [name for name in names if name not in before]
    if order != before:
        obs.attrs[_ORDER] = np.array(order, h5py.string_dtype())
    return rooms


def superseded(there: Iterable[str], names: Iterable[str], recorded: Iterable[str]) -> list[str]:
    """Columns of ours that told more of each cell, such as more candidates, than those of these names."""
    names = {*names}
    families = {_family(name) for name in names}
    return [name for name in there if name not in names and _family(name) in families and _is_ours(name, recorded)]


def column_facts(file: Any, target: Target) -> Record:
    """As `facts_of` for an open file, whose record is still that of the earlier run."""
    return facts_of(file["obs"], [*sorted(_recorded(file)), *_names(target)])


def facts_of(there: Iterable[str], ours: Iterable[str]) -> Record:
    """What a later run must know, to see that columns are ours: of this run and of earlier ones."""
    there = {*there}
    names = [name for name in dict.fromkeys(ours) if name in there and not name.startswith(_OURS)]
    return {_FACT: "\n".join(names)} if names else {}


def recorded(record: Mapping[str, Any]) -> list[str]:
    """Columns that the record of an earlier run names."""
    return str(record[_FACT]).split("\n") if _FACT in record else []


def _room(obs: Any, name: str, column: Column, n_cells: int) -> Any:
    if not column.words:
        return room(obs, name, (n_cells,), np.float32)
    if name in obs and not isinstance(obs[name], h5py.Group):
        del obs[name]
    group = obs.require_group(name)
    group.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
    _write_words(group, column.words)
    return room(group, "codes", (n_cells,), np.min_scalar_type(-len(column.words)))


def _write_words(group: Any, words: tuple[str, ...]) -> None:
    """The categories, unless they are there: what is written anew lets the file grow."""
    from anndata.io import write_elem

    old = group.get("categories")
    if old is not None:
        if _is_text(old) and old.asstr()[()].tolist() == list(words):
            return
        del group["categories"]
    write_elem(group, "categories", np.array(words, object))


def _names(target: Target) -> dict[str, Column]:
    return {f"{target.prefix}{column.name}": column for column in target.columns}


def _family(name: str) -> str:
    """The name without its rank."""
    return re.sub(r"_\d+$", "", name)


def _is_ours(name: str, recorded: Iterable[str]) -> bool:
    return name.startswith(_OURS) or name in {*recorded}


def _recorded(file: Any) -> set[str]:
    found = file.get(_RECORD)
    return set(found.asstr()[()].split("\n")) if _is_text(found) else set()


def _is_text(element: Any) -> bool:
    return isinstance(element, h5py.Dataset) and h5py.check_string_dtype(element.dtype) is not None


def _index(obs: Any) -> str:
    return str(obs.attrs.get("_index", "_index"))


def _order(obs: Any) -> list[str]:
    found: NDArray[Any] = np.asarray(obs.attrs.get(_ORDER, []))
    return [name.decode() if isinstance(name, bytes) else str(name) for name in found.tolist()]
