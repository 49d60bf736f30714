"""Real cells: the original's bins, and one result for raw, normalised and log1p values."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock
from scgpt_runtime.kernels import bins_from_draws
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize

pytestmark = pytest.mark.data


@pytest.fixture(scope="module", params=["pbmc3k_labelled", "lung_lines_mixology_5batch", "kang18_ctrl_12k"])
def counts(request: pytest.FixtureRequest) -> Any:
    """The first 300 cells as a CSR matrix of counts."""
    folder = os.environ.get("SCGPT_INFER_DATA")
    if not folder:
        pytest.skip("SCGPT_INFER_DATA names no folder of real data sets")
    anndata = pytest.importorskip("anndata")
    matrix = anndata.read_h5ad(Path(folder) / f"{request.param}.h5ad", backed=None).X[:300].tocsr()
    matrix.sort_indices()
    matrix.eliminate_zeros()
    return matrix.astype(np.float32)


def per_10k(counts: Any) -> Any:
    scaled = counts.astype(np.float64)
    scaled.data *= 1e4 / np.repeat(np.asarray(scaled.sum(axis=1)).ravel(), np.diff(scaled.indptr))
    return scaled


def test_bins_are_the_originals_whatever_the_values(counts) -> None:
    rng = np.random.default_rng(0)
    quantiles = np.linspace(0, 1, 50)
    for matrix in (counts, per_10k(counts).astype(np.float32), per_10k(counts).log1p().astype(np.float32)):
        for start, stop in pairwise(matrix.indptr):
            values, draws = matrix.data[start:stop], rng.random(stop - start)
            edges = np.quantile(values, quantiles)
            left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
            expected = np.ceil(draws * (right - left) + left)
            np.testing.assert_array_equal(bins_from_draws(values, draws, quantiles), expected)


def block(matrix: Any) -> CellBlock:
    return CellBlock(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data, 0)


@pytest.mark.parametrize("max_length", [1200, 200])
def test_raw_normalised_and_log1p_give_the_same_tokens(counts, max_length) -> None:
    columns: NDArray[np.int64] = np.random.default_rng(1).permutation(counts.shape[1])
    settings = TokenizerSettings(cls_id=60_695, pad_id=60_694, max_length=max_length)
    raw, *others = (
        tokenize(block(matrix), columns, settings, 60_697)
        for matrix in (counts, per_10k(counts), per_10k(counts).log1p())
    )
    assert not raw.faults.any()
    assert np.diff(raw.offsets).max() <= max_length
    for same in others:
        np.testing.assert_array_equal(same.ids, raw.ids)
        np.testing.assert_array_equal(same.values, raw.values)
