"""The rate that a share is a share of."""

import pytest

from scgpt_infer.bench import peak
from scgpt_infer.bench.peak import Shape, best_of, measure_peaks
from scgpt_runtime.providers import openvino_computes

RATES = {("cpu", "fp32"): 2e11, ("openvino", "fp32"): 1e11, ("openvino", "bf16"): 4e11, ("cpu", "int8"): 3e11}


def test_the_best_provider_counts():
    found = best_of("fp32", RATES)
    assert found is not None
    assert (found.tflops, found.by) == (0.2, "cpu fp32")


def test_slow_products_of_a_precision_are_no_excuse():
    """int8 slower than bf16, or bf16 slower than fp32, must not make a share look good."""
    found = best_of("int8", RATES)
    assert found is not None
    assert (found.precision, found.tflops, found.by) == ("int8", 0.4, "openvino bf16")
    assert best_of("fp16", {("cpu", "fp32"): 2e11, ("cpu", "fp16"): 1e11}).tflops == 0.2


def test_without_a_measurement_there_is_no_peak():
    assert best_of("fp32", {("cpu", "int8"): 1e11}) is None


def test_operations_of_a_chain():
    assert Shape(10, 4, 3).operations == 2 * 10 * 4 * 4 * 3


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_every_precision_that_a_provider_computes_is_measured(provider, monkeypatch):
    if provider == "openvino" and not openvino_computes():
        pytest.skip("OpenVINO cannot be used here")
    monkeypatch.setattr(peak, "_SHAPES", (Shape(8, 16, 2),))
    found = measure_peaks(provider, ("fp32", "int8", "bf16"), 1, 0.001)
    expected = {"fp32", "int8"} if provider == "cpu" else {"fp32", "int8", "bf16"} & set(openvino_computes())
    assert set(found) == expected
    assert all(rate > 0 for rate in found.values())
