import pytest

from scgpt_runtime.errors import DeviceError, DeviceLostError, DeviceMemoryError, ProviderError
from scgpt_runtime.failures import Failure, device_lost, meaning, memory_ran_out, not_set_up, recorded_elsewhere, told
from toy_gpu import said

# As ONNX Runtime's sources format them; run_with_iobinding and run put other words before the same text.
SAID = [
    (Failure.MEMORY, said(2, "out of memory")),
    (Failure.MEMORY, "Error in execution: Failed to allocate memory for requested buffer of size 1073741824"),
    (Failure.MEMORY, "Available memory of 1048576 is smaller than requested bytes of 4194304"),
    (Failure.MEMORY, "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=h ; file=f ; line=1 ; expr=e"),
    (Failure.MEMORY, "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED"),
    (Failure.MEMORY, "std::bad_alloc"),
    (Failure.MEMORY, "CUBLAS failure 1: CUBLAS_STATUS_NOT_INITIALIZED ; GPU=0 ; hostname=h ; file=f ; line=1 ; expr=e"),
    (Failure.MEMORY, "CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED ; GPU=0"),
    (Failure.LOST, said(700, "an illegal memory access was encountered") + " CUBLAS_STATUS_NOT_INITIALIZED"),
    (Failure.LOST, said(700, "an illegal memory access was encountered")),
    (Failure.LOST, "Error in execution: " + said(719, "unspecified launch failure")),
    (Failure.LOST, said(702, "the launch timed out and was terminated")),
    (Failure.LOST, said(214, "uncorrectable ECC error encountered")),
    (Failure.LOST, said(46, "all CUDA-capable devices are busy or unavailable")),
    (Failure.LOST, said(999, "unknown error")),
    (Failure.LOST, "[TensorRT] Cuda Runtime (an illegal memory access was encountered)"),
    (Failure.INSTALLATION, said(3, "initialization error")),
    (Failure.INSTALLATION, "CUDA error: initialization error"),
    (Failure.INSTALLATION, said(35, "CUDA driver version is insufficient for CUDA runtime version")),
    (Failure.INSTALLATION, said(100, "no CUDA-capable device is detected")),
    (Failure.INSTALLATION, said(209, "no kernel image is available for execution on the device")),
    (Failure.INSTALLATION, said(803, "system has unsupported display driver / cuda driver combination")),
    (Failure.CAPTURE, said(900, "operation not permitted when stream is capturing")),
    (Failure.CAPTURE, said(901, "operation failed due to a previous error during capture")),
    (Failure.OTHER, "Non-zero status code returned while running Mul node."),
    (Failure.OTHER, said(1, "invalid argument")),
    (Failure.OTHER, ""),
]


@pytest.mark.parametrize(("failure", "text"), SAID)
def test_a_text_has_one_meaning_wherever_it_stands(failure, text):
    assert meaning(text) is failure
    assert meaning(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {text}\n stack") is failure


def test_the_number_decides_over_the_words():
    assert meaning(said(700, "out of memory")) is Failure.LOST
    assert meaning(said(1, "invalid argument") + said(2, "out of memory")) is Failure.MEMORY


def test_people_read_no_places_in_source_files():
    assert told(said(2, "out of memory")) == "CUDA failure 2: out of memory"
    assert told("\n first line. \n second") == "first line"
    assert told("") == "no reason given"
    assert len(told("x" * 10_000)) == 400


def test_errors_name_the_device_and_what_to_do():
    gpu = "GPU 1 (NVIDIA L4)"
    memory = memory_ran_out(gpu, "one batch (ids (8, 24) uint16)", said(2, "out of memory"))
    assert isinstance(memory, DeviceMemoryError)
    assert all(word in str(memory) for word in (gpu, "(8, 24)", "--batch-tokens", "--max-length"))
    assert "doctor" not in str(memory)
    unsure = memory_ran_out(gpu, "x.onnx", "CUBLAS failure 1: CUBLAS_STATUS_NOT_INITIALIZED")
    assert all(word in str(unsure) for word in (gpu, "x.onnx", "--instances", "nvidia-smi", "doctor"))
    lost = device_lost(gpu, said(700, "an illegal memory access was encountered"))
    assert isinstance(lost, DeviceLostError)
    assert all(word in str(lost) for word in (gpu, "CUDA failure 700", "start a new one"))
    assert (memory.exit_code, lost.exit_code) == (3, 3)
    busy = recorded_elsewhere(gpu, said(900, "operation not permitted when stream is capturing"))
    assert isinstance(busy, DeviceError)
    assert all(word in str(busy) for word in (gpu, "CUDA failure 900", "a process of its own"))
    broken = not_set_up(gpu, said(35, "CUDA driver version is insufficient for CUDA runtime version"))
    assert type(broken) is ProviderError
    assert all(word in str(broken) for word in (gpu, "driver version is insufficient", "doctor"))
    assert "spawn" not in str(broken)
    forked = not_set_up(gpu, said(3, "initialization error"))
    assert all(word in str(forked) for word in (gpu, "CUDA failure 3", "forked", "spawn", "doctor"))
