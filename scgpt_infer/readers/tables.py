"""Tables of cells of several files below each other, for an output that keeps them: `stacked_table`.

pandas tables come in, one goes out that anndata can write. It knows no files.
"""

from collections.abc import Sequence
from typing import Any

__all__ = ["stacked_table"]


def stacked_table(tables: Sequence[tuple[str, Any]], column: str) -> Any:
    """The rows of all tables in order, with the columns of any of them; where a table lacks one, the value is missing.

    A column that is categorical wherever it is stays so. One that is of several kinds becomes text.

    Parameters
    ----------
    tables
        A name and a DataFrame each.
    column
        Name of the column in front, which takes the names of the tables.
    """
    import pandas as pd  # slow to import, and few runs need it

    names = dict.fromkeys(name for _, table in tables for name in table.columns if str(name) != column)
    index = pd.Index([str(cell) for _, table in tables for cell in table.index], dtype=object)
    codes = [number for number, (_, table) in enumerate(tables) for _ in range(len(table))]
    found = {column: pd.Categorical.from_codes(codes, [name for name, _ in tables])}
    for name in names:
        found[str(name)] = _stacked([(len(table), table.get(name)) for _, table in tables])
    return pd.DataFrame(found, index=index)


def _stacked(parts: Sequence[tuple[int, Any]]) -> Any:
    """The parts of a column, None for one of so many missing values."""
    import pandas as pd

    there = [part for _, part in parts if part is not None]
    dtype = _dtype(there, has_gaps=len(there) < len(parts))
    filled = [
        pd.Series([None] * length, dtype=dtype or "float64") if part is None else _as(part, dtype)
        for length, part in parts
    ]
    return pd.concat(filled, ignore_index=True).array


def _dtype(parts: Sequence[Any], has_gaps: bool) -> Any:
    """The type that all parts of a column can have; None for numbers, which find it themselves."""
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    kinds = [part.dtype for part in parts]
    if all(isinstance(kind, pd.CategoricalDtype) for kind in kinds):
        return pd.CategoricalDtype(list(dict.fromkeys(str(word) for kind in kinds for word in kind.categories)))
    if all(is_bool_dtype(kind) for kind in kinds):
        return pd.BooleanDtype() if has_gaps else None
    if all(is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in kinds):
        return None
    return pd.StringDtype()


def _as(part: Any, dtype: Any) -> Any:
    if dtype is None:
        return part
    if hasattr(dtype, "categories"):
        part = part.cat.rename_categories(str)
    return part.astype(dtype)
