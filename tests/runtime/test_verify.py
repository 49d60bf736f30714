import math
from dataclasses import replace

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.bundle import Bundle, seal
from scgpt_runtime.errors import BundleError, ProviderError
from scgpt_runtime.proof import one_minus_cosine
from scgpt_runtime.verify import verify


def test_a_good_bundle_passes_here(tmp_path):
    bundle = Bundle.open(toy.write(tmp_path / "toy"))
    (result,) = verify(bundle, "cpu")
    assert result.passed
    assert result.tokens_equal
    assert result.worst < 1e-12
    assert (result.precision, result.cells, result.limit) == ("fp32", 16, 1e-6)
    assert result.provider.startswith("CPUExecutionProvider 1")


def test_auto_proves_every_provider_that_runs_here(tmp_path):
    results = verify(Bundle.open(toy.write(tmp_path / "toy")))
    assert {result.provider.split()[0] for result in results} == {"OpenVINO", "CPUExecutionProvider"}
    assert {"fp32"} <= {result.precision for result in results} <= {"fp32", "bf16"}


def resealed(folder, golden) -> Bundle:
    golden.save(folder / "golden.npz")
    seal(folder, toy.manifest())
    return Bundle.open(folder)


def test_one_wrong_token_fails(tmp_path):
    folder = toy.write(tmp_path / "toy")
    values = toy.golden().values.copy()
    values[-1] ^= 1
    (result,) = verify(resealed(folder, replace(toy.golden(), values=values)), "cpu")
    assert not result.tokens_equal
    assert not result.passed


def test_the_worst_cell_counts(tmp_path):
    folder = toy.write(tmp_path / "toy")
    vectors = toy.golden().vectors.copy()
    vectors[11] += 0.01
    (result,) = verify(resealed(folder, replace(toy.golden(), vectors=vectors)), "cpu")
    assert result.tokens_equal
    assert not result.passed
    assert result.worst > 1e-6


def test_a_cell_without_a_vector_fails(tmp_path):
    folder = toy.write(tmp_path / "toy", external=None)
    (folder / "graphs" / "embed.onnx").write_bytes(toy.model(scale=float("inf")).SerializeToString())
    (result,) = verify(resealed(folder, toy.golden()), "cpu")
    assert result.worst == math.inf
    assert not result.passed


def test_a_model_with_batch_labels_passes_on_every_provider_and_all_labels_count(tmp_path):
    results = verify(Bundle.open(toy.write(tmp_path / "toy", labelled=True)))
    assert {result.provider.split()[0] for result in results} == {"OpenVINO", "CPUExecutionProvider"}
    assert all(result.passed for result in results)
    bundle = Bundle.open(toy.write(tmp_path / "fewer", labelled=True, batches=toy.BATCHES[:2]))  # sealed with three
    assert not any(result.passed for result in verify(bundle, precision="fp32"))


def test_a_graph_that_asks_for_labels_of_a_model_that_names_no_batches_is_refused(tmp_path):
    with pytest.raises(BundleError, match="asks for a batch label"):
        verify(Bundle.open(toy.write(tmp_path / "toy", labelled=True, batches=())))


def test_a_precision_that_is_not_sealed_is_refused(tmp_path):
    with pytest.raises(ProviderError, match="sealed: fp32"):
        verify(Bundle.open(toy.write(tmp_path / "toy")), precision="int8")


def test_one_minus_cosine_resolves_far_below_the_fp32_limit():
    one = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    two = np.array([[1.0, 1e-5], [3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], np.float32)
    found = one_minus_cosine(one, two)
    np.testing.assert_allclose(found[:4], [5e-11, 0, 1, 2], rtol=1e-3)
    assert found[4] == math.inf
