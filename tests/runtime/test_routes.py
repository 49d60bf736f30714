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


@pytest.mark.parametrize("version", [(1, 25), (1, 26), (1, 30)])
def test_lengths_of_padded_cells_are_given_to_no_onnxruntime_that_is_not_known_to_take_them(version):
    found = CudaVersions(version, (9, 28, 1))
    assert dialects("cuda", "fp16", (9, 0), found) == ("cuda-packed", "cuda-exact", "portable")
    assert dialects("cuda", "bf16", (9, 0), found) == ("cuda-exact", "portable")


def test_a_later_onnxruntime_runs_every_route():
    assert dialects("cuda", "fp16", (9, 0), CudaVersions((2, 0), (9, 28, 1))) == (*CUDA_DIALECTS, "portable")


def test_fp32_and_tensorrt_run_standard_operators():
    assert dialects("cuda", "fp32", (9, 0), NEW) == ("portable",)
    assert dialects("tensorrt", "fp16", (9, 0), NEW) == ("portable",)
    assert dialects("tensorrt", "bf16", (9, 0), NEW) == ()
    assert dialects("cuda", "int8", (9, 0), NEW) == ()
