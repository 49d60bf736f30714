import pytest

from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.routes import CudaVersions, dialects

NEW = CudaVersions((1, 31), (9, 28, 1))


def test_a_gpu_with_flash_attention_runs_every_route_in_the_order_of_expectation():
    assert dialects("cuda", "fp16", (9, 0), NEW) == (*CUDA_DIALECTS, "portable")
    assert dialects("cuda", "fp16", (8, 0), NEW) == (*CUDA_DIALECTS, "portable")


def test_packed_cells_have_no_bf16_kernels():
    assert dialects("cuda", "bf16", (9, 0), NEW) == (*CUDA_DIALECTS[1:], "portable")


@pytest.mark.parametrize("capability", [(6, 0), (7, 0), (7, 5)])
def test_before_8_0_there_is_attention_without_a_mask_and_no_bf16(capability):
    assert dialects("cuda", "fp16", capability, NEW) == ("cuda-exact", "portable")
    assert dialects("cuda", "bf16", capability, NEW) == ()


@pytest.mark.parametrize("cudnn", [None, (9, 2, 1), (9, 10, 0), (9, 10, 1)])
def test_key_lengths_need_a_cudnn_that_onnxruntime_takes(cudnn):
    assert "cuda-lengths" not in dialects("cuda", "fp16", (9, 0), CudaVersions((1, 31), cudnn))


@pytest.mark.parametrize(("version", "heeds"), [((1, 24), False), ((1, 25), True), ((1, 26), True), ((2, 0), True)])
def test_key_counts_are_not_given_to_an_onnxruntime_that_ignores_them(version, heeds):
    assert ("cuda-flash" in dialects("cuda", "fp16", (9, 0), CudaVersions(version, (9, 28, 1)))) is heeds


def test_fp32_and_tensorrt_run_standard_operators():
    assert dialects("cuda", "fp32", (9, 0), NEW) == ("portable",)
    assert dialects("tensorrt", "fp16", (9, 0), NEW) == ("portable",)
    assert dialects("tensorrt", "bf16", (9, 0), NEW) == ()
    assert dialects("cuda", "int8", (9, 0), NEW) == ()
