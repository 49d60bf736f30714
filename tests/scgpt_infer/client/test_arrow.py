"""What travels as Arrow: the cells that were given, read by the server's own reader, in few bytes."""

import io

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from scgpt_infer.client.arrow import body_of
from scgpt_infer.server.bodies import arrow
from scgpt_infer.server.genes import GeneTable
from scgpt_runtime.cells import CellBlock
from tests.scgpt_infer.server.fake_desk import demo_here

GENES = np.array([name for name in demo_here().vocabulary.tokens if not name.startswith("<")][:300], object)


def block_of(dense: np.ndarray) -> CellBlock:
    csr = sparse.csr_matrix(dense.astype(np.float32))
    return CellBlock(csr.indptr.astype(np.int64), csr.indices, csr.data, 0)


@pytest.mark.parametrize(
    ("odd", "genes", "values"),
    [
        (3, "uint16", "uint8"),
        (300, "uint16", "uint16"),
        (70_000, "uint16", "float"),
        (0.5, "uint16", "float"),
        (-1, "uint16", "float"),
        (np.nan, "uint16", "float"),
        (np.inf, "uint16", "float"),
    ],
)
def test_values_arrive_as_they_are_and_take_as_few_bytes_as_they_need(odd, genes, values):
    dense = np.random.default_rng(0).poisson(2.0, (5, len(GENES)))  # every gene is in one of them
    dense = np.where(np.arange(5)[:, None] == 3, 1.0, dense)
    dense[2, 7] = odd
    block = block_of(dense)
    body = body_of(block, GENES)
    schema = pa.ipc.open_stream(io.BytesIO(body)).schema
    assert str(schema.field("genes").type.value_type.index_type) == genes
    assert str(schema.field("values").type.value_type) == values
    table = GeneTable.of(demo_here().vocabulary)
    cells = arrow.read(body, 10, 1000).cells(table)
    np.testing.assert_array_equal(cells.indptr, block.indptr)
    np.testing.assert_array_equal(cells.values, block.data)
    assert [demo_here().vocabulary.tokens[token] for token in cells.tokens] == GENES[block.indices].tolist()


def test_few_genes_take_a_byte_each_and_cells_may_have_none():
    body = body_of(block_of(np.array([[0, 2, 0], [0, 0, 0]])), GENES[:3])
    table = pa.ipc.open_stream(io.BytesIO(body)).read_all()
    assert str(table.schema.field("genes").type.value_type.index_type) == "uint8"
    assert table.column("genes").to_pylist() == [[GENES[1]], []]
    assert body_of(block_of(np.zeros((2, 3))), GENES[:3])
