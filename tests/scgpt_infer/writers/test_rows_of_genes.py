"""Results whose rows are genes: tables are headed so, and have no column of errors."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from scgpt_infer.writers import Part, Target, writer_of
from scgpt_infer.writers.sink import Column

GENES = ["CD3D", "LYZ", "MS4A1"]
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def write(tmp_path):
    def written(name: str, *columns: Column, **values):
        path = tmp_path / name
        target = Target(path, 3, 4, "X", lambda start, stop: GENES[start:stop], columns=columns, row="gene")
        with writer_of(path).open(target) as sink:
            sink.write(Part(0, VECTORS, ("", "", ""), values))
            sink.commit({"model": "toy"})
        return path

    return written


def test_tables_begin_with_the_gene_and_end_with_its_vector(write):
    cells = Column("cells"), np.array([3, 1, 2], np.float32)
    table = pq.read_table(write("x.parquet", cells[0], cells=cells[1]))
    assert table.schema.names == ["gene", "cells", "embedding"]
    assert table["gene"].to_pylist() == GENES
    assert np.array_equal(np.array(table["embedding"].to_pylist()), VECTORS)
    read = pd.read_csv(write("x.csv", cells[0], cells=cells[1]))
    assert list(read.columns) == ["gene", "cells", "e0", "e1", "e2", "e3"]
    assert list(read["gene"]) == GENES


def test_the_names_beside_an_array_are_those_of_genes(write, tmp_path):
    path = write("x.npy")
    np.testing.assert_array_equal(np.load(path), VECTORS)
    assert (tmp_path / "x.genes.txt").read_text().splitlines() == GENES
    assert not (tmp_path / "x.cells.txt").exists()
