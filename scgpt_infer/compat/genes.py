"""The genes that the model saw of each cell: their names, and a vector for each of them.

In: results of the ``tokens`` graph, or cells and a vocabulary. Out: one list or pandas Series a cell. It opens nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgpt_infer.readers import CellSource
from scgpt_infer.spans import grid
from scgpt_infer.writers.sink import Column, Kind, Part, Record
from scgpt_runtime.cells import CellFault, Result, TokenBlock
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import InternalError
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import taking_part

__all__ = ["GeneVectors", "genes_of"]


@dataclass(frozen=True, slots=True)
class GeneVectors:
    """A task that keeps a unit vector for each gene of each cell.

    Attributes
    ----------
    names
        Names of the tokens.
    cells
        What was kept so far: for each cell a Series from gene name to (dim,) float32, in the order of
        `genes_of`; an empty one for a cell that cannot be embedded.
    """

    names: tuple[str, ...]
    cells: list[pd.Series] = field(default_factory=list)
    columns: tuple[Column, ...] = ()
    kind: Kind = "embeddings"

    @property
    def facts(self) -> Record:
        """Nothing that the run does not tell itself."""
        return {}

    def __call__(self, result: Result) -> Part:
        """Keep the genes of a block; its rows have no vector of their own."""
        if result.tokens is None:
            raise InternalError("The genes of cells were asked for of a graph that answers each cell.")
        hidden = result.outputs["hidden"]  # (n_tokens, dim)
        good = result.faults == CellFault.NONE
        for known, (start, stop), genes in zip(
            good, pairwise(result.tokens.offsets.tolist()), _names(result.tokens, self.names), strict=True
        ):
            vectors = hidden[start + 1 : stop] if known else hidden[:0]  # <cls> is left out
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            self.cells.append(pd.Series(list(unit), index=genes if known else [], dtype=object))
        reasons = tuple(CellFault(fault).reason for fault in result.faults.tolist())
        return Part(result.first_row, np.empty((result.n_cells, 0), np.float32), reasons)


def genes_of(engine: Engine, source: CellSource, columns: NDArray[np.int64]) -> list[list[str]]:
    """Names of the genes that the model sees of each cell.

    Parameters
    ----------
    engine
        Says how cells become tokens.
    source
        The cells.
    columns
        (n_genes,) token id of each column, -1 for an unknown one.

    Returns
    -------
    list of list of str
        For each cell the names in the vocabulary, in ascending order of their ids; none for a bad cell.
    """
    vocabulary = engine.vocabulary
    among = taking_part(vocabulary, engine.bundle.manifest.binning_genes)  # the engine leaves out the others too
    columns = np.where((columns >= 0) & among[columns], columns, -1)
    modalities = engine.bundle.modalities()
    of_tokens = None if modalities is None else modalities.of_tokens
    found: list[list[str]] = []
    for block in source.blocks(grid(source.n_cells)):
        tokens = tokenize(block, columns, engine.settings, len(vocabulary), modalities=of_tokens)
        found += _names(tokens, vocabulary.tokens)
    return found


def _names(tokens: TokenBlock, names: tuple[str, ...]) -> Iterator[list[str]]:
    """Names of the genes of each cell, ``<cls>`` left out."""
    for start, stop in pairwise(tokens.offsets.tolist()):
        yield [names[token] for token in tokens.ids[start + 1 : stop].tolist()]
