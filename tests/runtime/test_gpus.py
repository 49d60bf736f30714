import sys

import pytest

import fake_driver as fake
from scgpt_runtime import gpus as asked
from scgpt_runtime.gpus import Cuda, Driver, driver, gpus, why_none

MODULE = "NVRM version: NVIDIA UNIX {} 550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: gcc 12\n"


@pytest.fixture
def machine(monkeypatch):
    """Pretend a driver; None: there is no library of one."""

    def pretend(library, nvml=None, module=""):
        def load():
            if library is None:
                raise OSError("libcuda.so.1: cannot open shared object file: No such file or directory")
            return Cuda(library)

        monkeypatch.setattr(asked, "_cuda", load)
        monkeypatch.setattr(asked, "_kernel_module", lambda: module)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return pretend


def test_each_gpu_tells_what_decides_how_it_is_used(machine):
    machine(fake.Library((fake.gpu(), fake.gpu(1, *fake.A100))), fake.nvml())
    assert gpus() == (fake.gpu(), fake.gpu(1, *fake.A100))
    assert gpus()[1].compute == "8.0"
    assert driver() == Driver("580.65.06", (13, 0))
    assert why_none() is None


def test_a_part_of_a_gpu_is_asked_for_by_its_own_name(machine):
    machine(fake.Library(), fake.nvml(free=5 * fake.GIB, prefix="MIG"))
    (found,) = gpus()
    assert (found.uuid, found.free) == (f"MIG-{fake.NUMBER}", 5 * fake.GIB)


def test_without_nvml_free_memory_is_not_known_and_the_kernel_tells_the_driver(machine):
    machine(fake.Library(version=12040), module="550.54.15")
    assert gpus()[0].free is None
    assert driver() == Driver("550.54.15", (12, 4))
    assert driver().name == "NVIDIA driver 550.54.15 (CUDA 12.4)"
    machine(fake.Library(version=12040))
    assert driver().name == "NVIDIA driver (CUDA 12.4)"


def test_without_a_driver_there_is_nothing_and_a_reason(machine):
    machine(None)
    assert (gpus(), driver()) == ((), None)
    assert "No NVIDIA driver was found (libcuda.so.1: cannot open" in why_none()
    assert "--gpus all" in why_none()


def test_a_container_that_was_started_without_gpus_is_told(machine):
    machine(None, module="550.54.15")
    assert "driver 550.54.15 runs on this machine, but its library is not to be found" in why_none()
    assert "--gpus all" in why_none()


@pytest.mark.parametrize("visible", ["", "-1", "7"])
@pytest.mark.parametrize("library", [fake.Library((), init=100), fake.Library(())])
def test_gpus_that_are_hidden_name_what_hides_them(machine, monkeypatch, visible, library):
    machine(library, fake.nvml(count=2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == ()
    assert f'CUDA_VISIBLE_DEVICES="{visible}" leaves this process no GPU of the 2 that are there' in why_none()


def test_a_driver_without_a_gpu_says_so(machine):
    machine(fake.Library((), init=100))
    assert "grants this process no GPU" in why_none()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (3, "spawn"),
        (34, "stub"),
        (500, "stand-in"),
        (802, "nvidia-fabricmanager"),
        (803, "restart"),
        (999, "nvidia-uvm"),
        (46, "error 46"),
    ],
)
def test_a_driver_that_does_not_answer_says_what_to_do(machine, code, told):
    machine(fake.Library(init=code))
    assert gpus() == ()
    assert told in why_none()


@pytest.mark.parametrize("absent", ["cuDriverGetVersion", "cuInit", "cuDeviceGetCount", "cuDeviceGetUuid_v2"])
def test_a_library_without_a_function_of_the_driver_is_no_driver_and_is_named(machine, monkeypatch, absent):
    class Partial(fake.Library):
        def __getattribute__(self, name):
            if name == absent:
                raise AttributeError(f"libcuda.so.1: undefined symbol: {name}")  # as ctypes says it
            return super().__getattribute__(name)

    machine(Partial(), fake.nvml())
    if absent == "cuDriverGetVersion":
        assert driver() is None
        return
    assert driver() is not None
    assert gpus() == ()
    assert "libcuda.so.1 lacks a function" in why_none()


@pytest.mark.parametrize("kind", ["x86_64 Kernel Module ", "Open Kernel Module for x86_64 "])
def test_the_kernel_tells_the_version_of_its_module(tmp_path, kind):
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(MODULE.format(kind))
    assert asked._kernel_module(tmp_path) == "550.54.15"
    assert asked._kernel_module(tmp_path / "none") == ""


def test_the_numbers_asked_for_are_those_of_cuda():
    driver_api = pytest.importorskip("cuda.bindings.driver", exc_type=ImportError)
    number = driver_api.CUdevice_attribute
    assert int(number.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) == asked._MAJOR
    assert int(number.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) == asked._MINOR
    assert int(number.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE) == asked._L2
    assert int(number.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT) == asked._PROCESSORS
    code = driver_api.CUresult
    told = ("NOT_INITIALIZED", "STUB_LIBRARY", "NO_DEVICE", "NOT_FOUND", "SYSTEM_NOT_READY", "SYSTEM_DRIVER_MISMATCH")
    told += ("COMPAT_NOT_SUPPORTED_ON_DEVICE", "UNKNOWN")
    assert [int(getattr(code, f"CUDA_ERROR_{name}")) for name in told] == list(asked._CODES)


def test_the_fake_has_no_function_that_nvml_lacks():
    real = pytest.importorskip("pynvml")
    assert not [name for name in vars(fake.nvml()) if not callable(getattr(real, name, None))]


@pytest.mark.gpu
def test_a_real_gpu_tells_sizes_that_can_be():
    if problem := why_none():
        pytest.skip(problem)
    for found in gpus():
        assert found.name
        assert found.capability >= (5, 0)
        assert 0 <= found.free <= found.memory
        assert found.l2 > 0
        assert found.processors > 0
    assert driver().cuda >= (12, 0)
