"""The result of a job in an AnnData object: the caller's own, a copy of it, or one that is made of a file.

In: open cells, a `MemorySink` that is full. Out: an AnnData. Columns of ``obs`` follow the rules of ``.h5ad`` outputs:
none of the user's is replaced, and none of an earlier run stays beside fewer candidates.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import CellPaths, TabledCells, are_paths
from scgpt_infer.spans import grid
from scgpt_infer.writers.h5ad import RECORD, record_name
from scgpt_infer.writers.h5ad_columns import facts_of, recorded, refuse_others, superseded
from scgpt_infer.writers.h5ad_former import former, table_facts, tables_of
from scgpt_infer.writers.memory import MemorySink
from scgpt_infer.writers.sink import Column, Kind, Record, Target

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Attaching"]


@dataclass(frozen=True, slots=True)
class Attaching:
    """What is added to cells.

    Attributes
    ----------
    cells
        An AnnData object, or the path of a file.
    source
        The same, open.
    n_cells
        Those of them that are taken, from the first.
    key
        Name of the embedding under ``obsm``.
    columns
        Columns that ``obs`` gets.
    prefix
        What their names begin with.
    features
        What each number of a vector is of; empty for an embedding.
    kind
        What the result tells.
    """

    cells: "AnnData | CellPaths"
    source: CellSource
    n_cells: int
    key: str
    columns: tuple[Column, ...]
    prefix: str
    features: tuple[str, ...] = ()
    kind: Kind = "embeddings"

    def check(self) -> None:
        """Make sure that no column of the user's would be replaced.

        Raises
        ------
        OutputError
            When one would.
        """
        target = Target(
            Path(), self.n_cells, 0, self.key, self.source.cell_names, columns=self.columns, prefix=self.prefix
        )
        refuse_others(self.source.cell_columns, self._recorded(), target)

    def attached(self, sink: MemorySink, inplace: bool) -> "AnnData":
        """The cells with their result: the caller's object, or a copy that shares nothing with it."""
        import pandas as pd

        ours = self._recorded()
        if are_paths(self.cells):
            found = _loaded(self.source, self.n_cells)
        else:
            found = self.cells if inplace else _copied(self.cells, self.n_cells)
        before, tables = found.uns.get(record_name(self.kind)), [table.name for table in sink.tables]
        told = tables_of(before) if isinstance(before, Mapping) else ()
        for name in former(found.obsm, self.key, self.kind, sink.matrices, tables, told):
            del found.obsm[name]
            found.uns.pop(f"{name}_names", None)
        found.obsm[self.key] = sink.vectors
        for name, numbers in sink.matrices.items():
            found.obsm[f"{self.key}_{name}"] = numbers
        for table, numbers in sink.tables.items():
            found.obsm[f"{self.key}_{table.name}"] = numbers
            if table.features:
                found.uns[f"{self.key}_{table.name}_names"] = np.array(table.features, object)
        if self.features:
            found.uns[f"{self.key}_genes"] = np.array(self.features, object)
        names = {f"{self.prefix}{column.name}": column for column in self.columns}
        for name in superseded(list(found.obs.columns), names, ours):
            del found.obs[name]
        for name, column in names.items():
            values = sink.columns[column.name]
            found.obs[name] = pd.Categorical.from_codes(values, list(column.words)) if column.words else values
        facts = {**facts_of(found.obs.columns, [*ours, *names]), **table_facts(self.key, tables, told)}
        found.uns[record_name(self.kind)] = {**sink.record, **facts}
        return found

    def _recorded(self) -> list[str]:
        """Columns that the record of an earlier run names."""
        if are_paths(self.cells):
            stored = self.source.stored(self.key)
            record: Record = {} if stored is None else stored.record
        else:
            before = self.cells.uns.get(RECORD)
            record = before if isinstance(before, Mapping) else {}
        return recorded(record)


def _copied(cells: "AnnData", n_cells: int) -> "AnnData":
    """The first cells of an object, in memory of their own."""
    if n_cells == cells.n_obs:
        return cells.to_memory(copy=True)
    if cells.isbacked and cells.is_view:  # anndata makes no view of such a view
        return cells.to_memory()[:n_cells].copy()
    return cells[:n_cells].to_memory(copy=True)


def _loaded(source: CellSource, n_cells: int) -> "AnnData":
    """The cells of a file: all that an h5ad file has, of other formats the matrix, the names and obs."""
    import pandas as pd
    from anndata import AnnData, read_h5ad
    from scipy import sparse

    if source.path is not None and source.path.suffix.lower() == ".h5ad":
        found = read_h5ad(source.path)
        return found if n_cells == found.n_obs else found[:n_cells].copy()
    blocks = [
        sparse.csr_matrix((block.data, block.indices, block.indptr), shape=(block.n_cells, source.n_genes))
        for block in source.blocks(grid(n_cells))
    ]
    names = {name: list(column) for name, column in source.gene_names.items()}
    var = pd.DataFrame(names, index=pd.Index(names.pop("index")))
    obs = (
        source.cell_table().iloc[:n_cells].copy()
        if isinstance(source, TabledCells)
        else pd.DataFrame(index=pd.Index(source.cell_names(0, n_cells)))
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Variable names are not unique")  # as symbols of 10x's genes are
        return AnnData(sparse.vstack(blocks, format="csr"), obs=obs, var=var)
