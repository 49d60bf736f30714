"""Parts looked at while they become an output: `of_cells`, whether they are of the cells that it tells of.

In: parts, names. Out: the same parts. It knows no format of results.
"""

from collections.abc import Callable, Iterable, Iterator

from scgpt_infer.ledger.parts import Kept
from scgpt_runtime.errors import OutputError

__all__ = ["of_cells"]


def of_cells(parts: Iterable[Kept], names: Callable[[int, int], list[str]]) -> Iterator[Kept]:
    """Parts, each when it is seen to be of the cells that the output tells of.

    Parameters
    ----------
    parts
        Of any rows.
    names
        Of the cells that the output tells of.

    Raises
    ------
    OutputError
        A part is of others.
    """
    for kept in parts:
        first = kept.part.first_row
        told = zip(kept.names, names(first, kept.part.stop), kept.part.reasons, strict=True)
        for row, (name, expected, reason) in enumerate(told, first):
            if name != expected and not reason:  # what could not be read, or was not done, may have no name of its own
                raise OutputError(
                    f"Row {row:,} of the parts is the cell {name!r}, and row {row:,} of the cells is {expected!r}. "
                    "Bring back the cells that the parts were made of (merge: name them with --cells, cells=...), or "
                    "begin anew (--no-resume, resume=False)."
                )
        yield kept
