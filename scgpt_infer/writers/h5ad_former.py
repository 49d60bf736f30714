"""What earlier runs wrote beside the vectors of a key: it goes when the vectors are replaced, being of others.

In: names in ``obsm``, the record of the earlier run, what is written now. Out: names to remove, and facts to record.
"""

from collections.abc import Collection, Mapping
from typing import Any

import h5py

from scgpt_infer.writers.sink import Kind, Record

__all__ = ["IMPUTED", "RECORD", "former", "record_name", "table_facts", "tables_of", "told_tables"]

RECORD = "scgpt_infer"
"""Key under ``uns`` that the facts of a run are written under."""

IMPUTED = f"{RECORD}_imputed"
"""The same for values that were imputed: the facts of the cells' embedding stay beside them."""

_FACT = "obsm_tables"


def record_name(kind: Kind) -> str:
    """Key under ``uns`` of the facts of a run that told something of this kind."""
    return IMPUTED if kind == "imputed_values" else RECORD


def former(
    there: Collection[str],
    key: str,
    kind: Kind,
    matrices: Collection[str],
    tables: Collection[str] = (),
    told: Collection[str] = (),
) -> list[str]:
    """Keys of ``obsm`` that an earlier run wrote beside its values and this one does not: they are of other values.

    Parameters
    ----------
    there
        Keys of ``obsm``.
    key, kind, matrices, tables
        Of the result that is written now.
    told
        Tables of earlier runs, as `tables_of` gives them.
    """
    beside_values = ("nonzero",) if kind == "imputed_values" else ()
    names = [f"{key}_{name}" for name in beside_values if name not in matrices and key in there]
    if kind != "imputed_values":
        own = [name for of, name in (line.split("/", 1) for line in told) if of == key]
        names += [f"{key}_{name}" for name in own if name not in tables]
    return [name for name in names if name in there]


def tables_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Tables that the record of an earlier run names, each as ``key/table``."""
    return tuple(line for line in str(record.get(_FACT, "")).split("\n") if "/" in line)


def told_tables(file: Any, record: str) -> tuple[str, ...]:
    """The same of an open file, by the name of its record under ``uns``."""
    found = file.get(f"uns/{record}/{_FACT}")
    text = isinstance(found, h5py.Dataset) and h5py.check_string_dtype(found.dtype) is not None
    return tables_of({_FACT: found.asstr()[()]}) if text else ()


def table_facts(key: str, tables: Collection[str], told: Collection[str]) -> Record:
    """What a later run must know: tables of this run, and those of earlier ones under other keys."""
    lines = [line for line in told if line.split("/", 1)[0] != key] + [f"{key}/{name}" for name in tables]
    return {_FACT: "\n".join(lines)} if lines else {}
