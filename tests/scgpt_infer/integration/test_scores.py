"""Scores and what they are compared with: values are found, components tell cells apart, figures tell mixing."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from scgpt_infer.integration.baselines import components, harmonised, values_of
from scgpt_infer.integration.scores import AGGREGATES, Scores, score
from scgpt_infer.readers import open_cells
from scgpt_runtime.errors import CellsError

FIGURES = Scores(
    {"a": {"iLISI": 0.25, "Total": 0.5}, "b": {"iLISI": 1.0, "Total": 0.75}}, "day", "type", 200, 2, 3, "1"
)


def test_the_table_and_the_json_tell_the_same():
    assert json.loads(FIGURES.to_json())["methods"]["b"] == {"iLISI": 1.0, "Total": 0.75}
    assert "  iLISI     0.250     1.000" in FIGURES.report()
    assert "200 cells, 2 batches (day), 3 types (type)" in FIGURES.report()


def test_values_of_some_rows_are_those_of_the_file(cells, file):
    rows = np.array([3, 900, 1024, 1099])
    with open_cells(file, layer="X") as source:
        np.testing.assert_array_equal(values_of(source, rows).toarray(), cells.X[rows].toarray())


def counts(random: np.random.Generator, types: np.ndarray, batches: np.ndarray) -> sp.csr_matrix:
    """Cells of two types, told by twenty genes, with a batch effect on twenty others."""
    rate = np.full((len(types), 100), 1.0)
    rate[types == "x", :20] = 6.0
    rate[batches == "p", 20:40] = 4.0
    return sp.csr_matrix(random.poisson(rate).astype(np.float32))


@pytest.mark.slow  # jax compiles every figure anew
def test_what_mixes_batches_and_what_keeps_types_is_told_apart():
    pytest.importorskip("scib_metrics")
    pytest.importorskip("harmonypy")
    random = np.random.default_rng(0)
    types, batches = random.choice(["x", "y"], 300), random.choice(["p", "q"], 300)
    before = components(counts(random, types, batches), batches, n=10)
    assert before.shape == (300, 10)
    mixed = harmonised(before, batches)
    noise = random.normal(size=(300, 10)).astype(np.float32)
    found = score({"PCA": before, "Harmony": mixed, "noise": noise}, before, batches, types).methods
    assert set(AGGREGATES) <= set(found["PCA"])
    assert found["Harmony"]["iLISI"] > found["PCA"]["iLISI"]
    assert found["PCA"]["cLISI"] > 0.9 > found["noise"]["cLISI"]


@pytest.mark.parametrize(("n", "told"), [(30, "30 cells can be scored"), (150, "has one value alone")])
def test_what_cannot_be_scored_is_refused(n, told, monkeypatch):
    monkeypatch.setattr("scgpt_infer.integration.scores.find_spec", lambda name: True)
    vectors, names = np.zeros((n, 2), np.float32), np.array(["a", "b"])[np.arange(n) % 2]
    with pytest.raises(CellsError, match=told):
        score({"m": vectors}, vectors, names, np.full(n, "type"))
