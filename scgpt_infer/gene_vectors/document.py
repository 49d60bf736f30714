"""Vectors of genes as a JSON document of kind ``gene_vectors``; see docs/json.md.

In: rows of genes. Out: text, one gene a line. The same vectors give the same bytes. It knows no model and no cells.
"""

import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import schema
from scgpt_infer.writers.sink import Record

__all__ = ["KIND", "json_text"]

KIND = "gene_vectors"
"""What JSON documents call this result."""


def json_text(
    genes: tuple[str, ...],
    vectors: NDArray[np.float32],
    record: Record,
    cells: NDArray[np.int64] | None = None,
    by: str = "",
    groups: tuple[str, ...] = (),
) -> str:
    """Vectors as text that keeps to the schema; parameters are the fields of `GeneVectors`."""
    least = "null" if cells is None else str(int(record["min_cells"]))
    head = f'"by": {json.dumps(by or None)}, "min_cells": {least}'
    entries = ",\n".join(_entries(genes, vectors, cells, groups))
    members = {"vectors": f'{{{head}, "genes": [\n{entries}\n]}}'}
    return schema.document(KIND, members, schema.run_facts(record))


def _entries(
    genes: tuple[str, ...], vectors: NDArray[np.float32], cells: NDArray[np.int64] | None, groups: tuple[str, ...]
) -> Iterator[str]:
    for row, (gene, numbers) in enumerate(zip(genes, vectors, strict=True)):
        group = f', "group": {schema.quoted(groups[row])}' if groups else ""
        count = "" if cells is None else f', "n_cells": {int(cells[row])}'
        yield f'{{"gene": {schema.quoted(gene)}{group}{count}, "embedding": [{", ".join(schema.numbers(numbers))}]}}'
