import ctypes
import importlib
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from scgpt_runtime.device_memory import CudaCallError, CudaMemory, HostMemory
from scgpt_runtime.errors import MissingDependencyError
from scgpt_runtime.failures import Failure, meaning

STREAM = 0xABC
TO_DEVICE, FROM_DEVICE = object(), object()


class Stream:
    def __int__(self):
        return STREAM


class FakeRuntime:
    """``cuda.bindings.runtime`` with its ways: each function answers a tuple, its code first. Memory is the host's."""

    def __init__(self, fails=None):
        self.fails, self.called, self.held = fails or {}, [], {}
        self.known = {
            "cudaStreamNonBlocking": 1,
            "cudaHostAllocDefault": 0,
            "cudaMemcpyKind": SimpleNamespace(cudaMemcpyHostToDevice=TO_DEVICE, cudaMemcpyDeviceToHost=FROM_DEVICE),
        }
        self.functions: dict[str, Callable] = {
            "cudaSetDevice": lambda device: (),
            "cudaStreamCreateWithFlags": lambda flags: (Stream(),) if flags == 1 else None,
            "cudaHostAlloc": lambda size, flags: (self.make(size),),
            "cudaMalloc": lambda size: (self.make(size),),
            "cudaFree": self.free,
            "cudaFreeHost": self.free,
            "cudaMemcpyAsync": self.copy,
            "cudaStreamSynchronize": lambda stream: (),
            "cudaStreamDestroy": lambda stream: (),
        }

    def __getattr__(self, name):
        if name in self.known:
            return self.known[name]
        if name == "cudaGetErrorString":
            return lambda code: (0, {2: b"out of memory", 700: b"an illegal memory access was encountered"}[code])

        def call(*arguments):
            self.called.append(name)
            code = self.fails.get(name, 0)
            made = self.functions[name](*arguments)
            return (code, *(made if code == 0 else [None for _ in made]))

        return call

    def make(self, size):
        held = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(held)] = held
        return ctypes.addressof(held)

    def free(self, address):
        del self.held[address]
        return ()

    def copy(self, to, source, count, kind, stream):
        assert kind in (TO_DEVICE, FROM_DEVICE)
        assert int(stream) == STREAM
        ctypes.memmove(to, source, count)
        return ()


def test_the_host_holds_what_was_copied_and_lets_go():
    memory = HostMemory()
    memory.start()
    staging = memory.staging(1000)
    address = memory.take(1000)
    assert address % 256 == 0
    staging[:] = np.arange(1000, dtype=np.uint8)
    memory.copy_in(address, staging[:600])
    back = memory.staging(1000)
    memory.copy_out(back[:600], address)
    memory.wait()
    np.testing.assert_array_equal(back[:600], staging[:600])
    assert not back[600:].any()
    memory.give_back(address)
    memory.free_staging(staging)
    memory.end()
    assert not memory._taken


def test_cuda_is_called_as_its_package_wants_it():
    runtime = FakeRuntime()
    memory = CudaMemory(1, runtime)
    memory.start()
    assert memory.stream == STREAM
    staging, address = memory.staging(64), memory.take(64)
    assert (staging.dtype, staging.shape) == (np.uint8, (64,))
    staging[:] = 7
    memory.copy_in(address, staging)
    staging[:] = 0
    memory.copy_out(staging, address)
    memory.wait()
    assert (staging == 7).all()
    memory.give_back(address)
    memory.free_staging(staging)
    memory.end()
    memory.end()
    assert runtime.held == {}
    assert runtime.called == [
        "cudaSetDevice",
        "cudaStreamCreateWithFlags",
        "cudaHostAlloc",
        "cudaMalloc",
        "cudaMemcpyAsync",
        "cudaMemcpyAsync",
        "cudaStreamSynchronize",
        "cudaFree",
        "cudaFreeHost",
        "cudaStreamDestroy",
    ]


@pytest.mark.parametrize(
    ("function", "code", "failure"),
    [
        ("cudaMalloc", 2, Failure.MEMORY),
        ("cudaMalloc", 700, Failure.LOST),
    ],
)
def test_a_code_other_than_success_is_an_error_with_onnxruntimes_words(function, code, failure):
    memory = CudaMemory(3, FakeRuntime({function: code}))
    memory.start()
    with pytest.raises(CudaCallError, match=rf"CUDA failure {code}: .*GPU=3.*{function}") as raised:
        memory.take(64)
    assert meaning(str(raised.value)) is failure


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    def refuse(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingDependencyError, match=r"cuda-bindings .*pip install \"scgpt-infer\[gpu\]\""):
        CudaMemory(0)


def test_nvidias_own_package_without_a_gpu_says_what_is_missing():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if int(runtime.cudaGetDeviceCount()[0]) == 0:
        pytest.skip("there is a GPU")
    with pytest.raises(CudaCallError) as raised:
        CudaMemory(0).start()
    assert meaning(str(raised.value)) is Failure.INSTALLATION


def test_a_second_start_makes_a_new_stream_and_leaves_the_first_alone():
    runtime = FakeRuntime()
    memory = CudaMemory(0, runtime)
    memory.start()
    memory.start()
    memory.end()
    memory.end()
    names = [name for name in runtime.called if "Stream" in name]
    assert names == ["cudaStreamCreateWithFlags", "cudaStreamCreateWithFlags", "cudaStreamDestroy"]
