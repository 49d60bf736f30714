"""What the text formats have in common: a `CellSource` of rows that were read once, and what they refuse.

Rows and names come in. It knows nothing of how the text was written.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scgpt_infer.readers.bare import BareCells
from scgpt_infer.readers.counts import choose
from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.names import INDEX, GeneNames
from scgpt_runtime.errors import CellsError

__all__ = ["refuse_layer", "text_cells"]

SHOWN = 3


def text_cells(
    path: Path,
    rows: Rows,
    cells: Sequence[str],
    genes: Mapping[str, Sequence[str]],
    why: str,
    close: Callable[[], None],
) -> BareCells:
    """A `CellSource` over rows that were read from text.

    Parameters
    ----------
    path
        The file or folder.
    rows
        The numbers.
    cells
        Names of the cells.
    genes
        Names of the genes by column; ``"index"`` is one of them.
    why
        What the matrix is, in words.
    close
        Removes what the rows are read from.

    Raises
    ------
    CellsError
        If two cells have one name, or the values are scaled.
    """
    _check_unique(cells, path)
    counts = choose({"X": lambda: rows}, None, False, str(path))
    columns = [name for name in genes if name != INDEX]
    gene_names = GeneNames(columns, lambda name: list(genes[name]), str(path))
    return BareCells(path, counts, lambda start, stop: list(cells[start:stop]), gene_names, why, close)


def refuse_layer(path: Path, layer: str | None) -> None:
    """Raise `CellsError` where another matrix is asked for than the one that there is, before that is read."""
    if layer not in (None, "X"):
        raise CellsError(f"{path} holds one matrix, and the layer {layer!r} was asked for. Leave the layer out.")


def _check_unique(cells: Sequence[str], path: Path) -> None:
    if len(set(cells)) == len(cells):
        return
    twice = [name for name, n in Counter(cells).items() if n > 1]
    shown = ", ".join(repr(name) for name in twice[:SHOWN]) + (", ..." if len(twice) > SHOWN else "")
    raise CellsError(
        f"{path} has {len(twice):,} names that several cells bear: {shown}. Their results could not be told apart: "
        "make them unique, for example with the name of the sample before them."
    )
