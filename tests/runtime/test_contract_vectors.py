"""The same cell gives the same vector: whatever block, batch, thread, row or column order it comes in.

At every sealed precision, on random and on real cells, with the bound that each precision is held to.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.verify import one_minus_cosine, verify

BOUNDS = {"fp32": 1e-10, "fp16": 1e-4, "bf16": 1e-4, "int8": 5e-4}
"""Largest 1 - cosine between two batchings; for fp32 the largest difference of a coordinate is bounded too."""

PRECISIONS = ["fp32", "fp16", "int8"]


class Cells(NamedTuple):
    block: CellBlock
    columns: NDArray[np.int64]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module", params=["golden", pytest.param("real", marks=pytest.mark.data)])
def cells(request: pytest.FixtureRequest, bundle: Bundle) -> Cells:
    return golden_cells(bundle) if request.param == "golden" else real_cells(bundle)


def golden_cells(bundle: Bundle) -> Cells:
    return Cells(bundle.golden().block(), np.arange(len(bundle.vocabulary())))


def real_cells(bundle: Bundle) -> Cells:
    folder = os.environ.get("SCGPT_INFER_DATA")
    if not folder:
        pytest.skip("SCGPT_INFER_DATA names no folder of real data sets")
    anndata = pytest.importorskip("anndata")
    found = anndata.read_h5ad(Path(folder) / "pbmc3k_labelled.h5ad")[:60]
    matrix, index = found.X.tocsr().astype(np.float32), bundle.vocabulary().index
    columns = np.array([index.get(name, -1) for name in found.var_names])
    return Cells(CellBlock(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data, 0), columns)


def take(block: CellBlock, rows: NDArray[np.int64]) -> CellBlock:
    """Some cells of a block, in any order."""
    parts = [slice(block.indptr[row], block.indptr[row + 1]) for row in rows]
    indptr = np.concatenate([[0], np.cumsum([part.stop - part.start for part in parts])]).astype(np.int64)
    return CellBlock(
        indptr,
        np.concatenate([block.indices[part] for part in parts]),
        np.concatenate([block.data[part] for part in parts]),
        0,
    )


def split(block: CellBlock, rows: int) -> list[CellBlock]:
    return [take(block, np.arange(start, min(start + rows, block.n_cells))) for start in range(0, block.n_cells, rows)]


def vectors(bundle: Bundle, cells: Cells, blocks: list[CellBlock], precision: str, **options) -> NDArray[np.float32]:
    with Engine.open(bundle, EngineOptions(precision=precision, **options)) as engine:
        return np.concatenate([result.outputs["cell"] for result in engine.run(blocks, cells.columns)])


def assert_same(found: NDArray[np.float32], expected: NDArray[np.float32], precision: str) -> None:
    assert one_minus_cosine(found, expected).max() <= BOUNDS[precision]
    if precision == "fp32":
        unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (found, expected)]
        assert np.abs(unit[0] - unit[1]).max() <= 1e-5


@pytest.fixture(scope="module", params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def expected(bundle: Bundle, cells: Cells, precision: str) -> NDArray[np.float32]:
    return vectors(bundle, cells, [cells.block], precision)


@pytest.mark.parametrize("batch_tokens", [1, 700, 20_000])
def test_batches_do_not_matter(bundle, cells, precision, expected, batch_tokens):
    assert_same(vectors(bundle, cells, [cells.block], precision, batch_tokens=batch_tokens), expected, precision)


@pytest.mark.parametrize("rows", [1, 7])
def test_blocks_do_not_matter(bundle, cells, precision, expected, rows):
    assert_same(vectors(bundle, cells, split(cells.block, rows), precision), expected, precision)


def test_threads_do_not_matter(bundle, cells, precision, expected):
    assert_same(vectors(bundle, cells, [cells.block], precision, threads=1), expected, precision)


def test_the_place_of_a_cell_does_not_matter(bundle, cells, precision, expected):
    order = np.random.default_rng(2).permutation(cells.block.n_cells)
    assert_same(vectors(bundle, cells, [take(cells.block, order)], precision), expected[order], precision)


def test_the_order_of_gene_columns_changes_not_one_bit(bundle, cells, precision, expected):
    order = np.random.default_rng(3).permutation(len(cells.columns))
    place = np.argsort(order).astype(np.int32)
    moved = CellBlock(cells.block.indptr, place[cells.block.indices], cells.block.data, 0)
    found = vectors(bundle, Cells(moved, cells.columns[order]), [moved], precision)
    np.testing.assert_array_equal(found, expected)


def test_normalised_and_log1p_values_change_not_one_bit(bundle, cells, precision, expected):
    sizes = np.diff(cells.block.indptr)
    # Multiplying by a power of two keeps equal values equal and different ones different.
    scaled = cells.block.data * np.repeat(2.0 ** (np.arange(len(sizes)) % 5), sizes).astype(np.float32)
    for data in (scaled, np.log1p(cells.block.data.astype(np.float64)).astype(np.float32)):
        same = CellBlock(cells.block.indptr, cells.block.indices, data, 0)
        np.testing.assert_array_equal(vectors(bundle, cells, [same], precision), expected)


def test_again_and_from_a_later_block_give_the_same_bits(bundle, cells, precision):
    blocks = split(cells.block, 5)
    whole = vectors(bundle, cells, blocks, precision)
    np.testing.assert_array_equal(vectors(bundle, cells, blocks, precision), whole)
    np.testing.assert_array_equal(vectors(bundle, cells, blocks[2:], precision), whole[10:])


def test_the_seed_decides(bundle, cells, precision, expected):
    np.testing.assert_array_equal(vectors(bundle, cells, [cells.block], precision, seed=0), expected)
    assert one_minus_cosine(vectors(bundle, cells, [cells.block], precision, seed=1), expected).max() > 0


def test_the_bundle_proves_itself_here(bundle):
    results = verify(bundle)
    assert [result.precision for result in results] == PRECISIONS
    for result in results:
        assert result.passed, result
        assert result.cells >= 16


def test_the_ids_that_were_sealed_are_the_ids_of_the_vectors(bundle, precision):
    with Engine.open(bundle, EngineOptions(precision=precision)) as engine:
        assert engine.vector_id == bundle.manifest.vector_ids[precision]
