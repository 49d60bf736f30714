"""The rate that a share is a share of."""

import numpy as np
import pytest

from scgpt_infer.bench import peak
from scgpt_infer.bench.peak import Shape, best_of, measure_peaks
from scgpt_runtime.errors import ProviderError
from scgpt_runtime.providers import obstacle, onnxruntime, openvino_computes

RATES = {("cpu", "fp32"): 2e11, ("openvino", "fp32"): 1e11, ("openvino", "bf16"): 4e11, ("cpu", "int8"): 3e11}


def test_the_best_provider_counts():
    found = best_of(False, "fp32", RATES)
    assert found is not None
    assert (found.tflops, found.by) == (0.2, "cpu fp32")


def test_slow_products_of_a_precision_are_no_excuse():
    """int8 slower than bf16, or bf16 slower than fp32, must not make a share look good."""
    found = best_of(False, "int8", RATES)
    assert found is not None
    assert (found.precision, found.tflops, found.by) == ("int8", 0.4, "openvino bf16")
    assert best_of(False, "fp16", {("cpu", "fp32"): 2e11, ("cpu", "fp16"): 1e11}).tflops == 0.2


def test_a_processor_is_not_held_against_a_gpu_nor_a_gpu_against_a_processor():
    both = RATES | {("cuda", "fp16"): 8e14, ("cuda", "fp32"): 5e13}
    assert best_of(False, "fp32", both).tflops == 0.2
    on_gpu = best_of(True, "bf16", both)
    assert (on_gpu.tflops, on_gpu.by, on_gpu.on_gpu) == (800, "cuda fp16", True)
    assert best_of(True, "fp32", RATES) is None


def test_without_a_measurement_there_is_no_peak():
    assert best_of(False, "fp32", {("cpu", "int8"): 1e11}) is None


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


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_products_on_a_device_are_rehearsed_on_the_processor(precision):
    run = peak._on_device("cpu", Shape(8, 16, 2), precision)
    run()
    run()


def test_bf16_reaches_onnxruntime_as_what_it_is():
    bits = np.array([[0x3F80]], np.uint16)
    value = onnxruntime().OrtValue.ortvalue_from_numpy_with_onnx_type(bits, peak._BF16)
    assert value.data_type() == "tensor(bfloat16)"


def test_a_gpu_that_cannot_be_used_has_no_peak_but_a_reason():
    with pytest.raises(ProviderError, match="Provider cuda cannot run here"):
        measure_peaks("cuda", ("fp16",), 1, 0.001)


@pytest.mark.gpu
def test_every_precision_of_a_gpu_is_measured(monkeypatch):
    if problem := obstacle("cuda"):
        pytest.skip(problem)
    monkeypatch.setattr(peak, "_GPU_SHAPES", (Shape(1024, 512, 4),))
    found = measure_peaks("cuda", ("fp32", "fp16", "bf16"), 1, 0.01)
    assert set(found) == {"fp32", "fp16", "bf16"}
    assert all(rate > 1e12 for rate in found.values())
