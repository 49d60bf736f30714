"""benchmarks/grn_attention.py: rankings are judged by what they put first, and baselines say what they are called."""

import numpy as np
import pytest
from scipy.stats import hypergeom

from benchmarks import grn_attention
from benchmarks.grn_attention import Expressed, judged


def test_the_gene_set_has_its_97_genes_and_their_newer_names():
    newer = {"CMTR1", "MVB12A", "TENT5A", "WARS1"}
    assert len(grn_attention.SET - newer) == 97
    assert newer < grn_attention.SET


def test_a_ranking_is_judged_without_the_factors():
    known = np.zeros(200, bool)
    known[:21] = True
    found = judged(np.arange(200.0)[::-1], known, left_out=[0])
    assert found["precision at 20"] == 1.0
    assert found["precision at 100"] == 0.2
    assert found["auroc"] == 1.0
    assert found["p at 20"] == pytest.approx(hypergeom.sf(19, 199, 20, 20), rel=0.05)
    backwards = judged(np.arange(200.0), known, left_out=[0])
    assert (backwards["precision at 20"], backwards["p at 20"], backwards["auroc"]) == (0.0, 1.0, 0.0)


def test_correlations_are_numpy_s_and_flat_genes_have_none():
    random = np.random.default_rng(0)
    values = random.normal(size=(50, 6))
    values[:, 5] = 1.0
    stimulated = np.arange(50) < 30
    cells = Expressed(values, stimulated)
    expected = np.corrcoef(values[:30, :5].T)[2]
    np.testing.assert_allclose(cells.correlations(2, stimulated), [*expected, 0.0], atol=1e-12)
    np.testing.assert_allclose(cells.differences(), values[:30].mean(0) - values[30:].mean(0))
