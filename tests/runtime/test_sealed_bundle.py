"""A bundle that was really exported: it proves itself, and its vectors carry the id it was sealed with."""

import numpy as np
import pytest

from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.verify import verify

PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


def golden_vectors(bundle: Bundle, **options) -> np.ndarray:
    with Engine.open(bundle, EngineOptions(**options)) as engine:
        (result,) = engine.run([bundle.golden().block()], np.arange(len(engine.vocabulary)))
    return result.outputs["cell"]


def test_it_proves_itself_here(bundle):
    results = verify(bundle)
    assert set(PRECISIONS) <= {result.precision for result in results} <= {*PRECISIONS, "bf16"}
    for result in results:
        assert result.passed, result
        assert result.cells >= 16


@pytest.mark.parametrize("precision", PRECISIONS)
def test_its_vectors_carry_the_id_that_was_sealed(bundle, precision):
    with Engine.open(bundle, EngineOptions(precision=precision)) as engine:
        assert engine.vector_id == bundle.manifest.vector_ids[precision]


def test_the_seed_decides_both_vectors_and_id(bundle):
    plain = golden_vectors(bundle)
    np.testing.assert_array_equal(golden_vectors(bundle, seed=0), plain)
    assert np.abs(golden_vectors(bundle, seed=1) - plain).max() > 0
    with Engine.open(bundle, EngineOptions(seed=1)) as engine:
        assert engine.vector_id != bundle.manifest.vector_ids["fp32"]
