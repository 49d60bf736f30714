import logging
import types
import warnings
from importlib import metadata

import pytest

import fake_driver as fake
from scgpt_runtime import cuda_libraries
from scgpt_runtime.cuda_libraries import Build, advice, advised_extra, build, cudnn, has_kernels, missing
from scgpt_runtime.gpus import Driver

CUDA_11, CUDA_12, CUDA_13 = (
    Driver("470.57.02", (11, 4)),
    Driver("550.54.15", (12, 4)),
    Driver("580.65.06", (13, 0)),
)
BOTH = "pip uninstall -y onnxruntime-gpu nvidia-cudnn-cu12 nvidia-cudnn-cu13"


def runtime(version="1.31.1", cuda="13.0", preload=lambda: None):
    return types.SimpleNamespace(
        __version__=version, __file__="/site/onnxruntime/__init__.py", cuda_version=cuda, preload_dlls=preload
    )


class Cudnn:
    """``libcudnn.so.9`` of a CUDA version."""

    def __init__(self, version=92801, cuda=13050):
        self.cudnnGetVersion, self.cudnnGetCudartVersion = self.Answer(version), self.Answer(cuda)

    class Answer:
        def __init__(self, number):
            self.number = number

        def __call__(self):
            return self.number


@pytest.fixture
def machine(monkeypatch):
    """Pretend a machine: its driver, its GPUs, the libraries that do not load, and cuDNN."""

    def pretend(found=CUDA_13, granted=None, absent=(), library=None, bindings=None):
        granted = (fake.gpu(),) if granted is None else granted

        def load(name):
            for part in absent:
                if part in name:
                    raise OSError(f"{part}: cannot open shared object file: No such file or directory")
            return library or Cudnn(cuda=1000 * found.cuda[0])

        monkeypatch.setattr(cuda_libraries, "driver", lambda: found)
        monkeypatch.setattr(cuda_libraries, "gpus", lambda: granted)
        monkeypatch.setattr(cuda_libraries, "why_none", lambda: None if granted else "no GPU, and why")
        monkeypatch.setattr(cuda_libraries, "_load", load)
        monkeypatch.setattr(metadata, "version", lambda name: bindings or f"{found.cuda[0]}.5.0")

    cuda_libraries._libraries.cache_clear()
    monkeypatch.setattr(cuda_libraries, "_libraries", cuda_libraries._libraries.__wrapped__)
    return pretend


@pytest.mark.parametrize(("version", "cuda", "found"), [("1.31.1", "13.0", CUDA_13), ("1.26.0", "12.8", CUDA_12)])
def test_a_machine_that_has_all_has_no_obstacle(machine, version, cuda, found):
    machine(found)
    assert missing(runtime(version, cuda)) is None
    assert missing(runtime(version, cuda), "tensorrt") is None
    assert cudnn() == (9, 28, 1)


def test_a_build_for_cuda_12_runs_on_a_newer_driver(machine):
    machine(CUDA_13, library=Cudnn(cuda=12090), bindings="12.9.10")
    assert missing(runtime("1.26.0", "12.8")) is None


def test_a_driver_that_is_too_old_for_cuda_13_gives_the_build_for_cuda_12(machine):
    machine(CUDA_12)
    told = missing(runtime())
    assert told.startswith("NVIDIA driver 550.54.15 (CUDA 12.4) is too old: onnxruntime-gpu 1.31.1 (CUDA 13.0) needs")
    assert "driver 580 or newer" in told
    assert f'{BOTH} && pip install "scgpt-infer[gpu-cu12]"' in told


@pytest.mark.parametrize(("version", "cuda"), [("1.31.1", "13.0"), ("1.26.0", "12.8")])
def test_a_driver_from_before_cuda_12_says_what_is_needed(machine, version, cuda):
    machine(CUDA_11)
    told = missing(runtime(version, cuda))
    assert "NVIDIA driver 470.57.02 (CUDA 11.4) is too old" in told
    assert "Update the driver to 525 or newer, or take --provider cpu" in told
    assert "pip install" not in told


def test_an_old_driver_counts_before_gpus_that_it_does_not_grant(machine):
    machine(CUDA_12, granted=())
    assert "too old" in missing(runtime())


def test_without_a_gpu_its_reason_is_given(machine):
    machine(granted=())
    assert missing(runtime()) == "no GPU, and why"


def test_a_gpu_without_kernels_gives_the_build_that_has_them(machine):
    machine(granted=(fake.gpu(0, *fake.V100),))
    told = missing(runtime())
    assert "Tesla V100-SXM2-16GB (device 0) has compute capability 7.0" in told
    assert "1.31.1 (CUDA 13.0) has kernels for 7.5, 8.0, 8.6, 8.9, 9.0, 12.0" in told
    assert f'{BOTH} && pip install "scgpt-infer[gpu-cu12]"' in told


def test_a_gpu_that_no_build_has_kernels_for_leaves_the_processor(machine):
    machine(granted=(fake.gpu(0, "Tesla M40", (5, 2)),))
    assert "No build has any: take --provider cpu" in missing(runtime("1.26.0", "12.8"))


def test_one_gpu_with_kernels_is_enough(machine):
    machine(granted=(fake.gpu(0, *fake.V100), fake.gpu(1)))
    assert missing(runtime()) is None


@pytest.mark.parametrize(
    ("version", "runs", "does_not"),
    [
        ("1.26.0", [(6, 1), (7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0)], [(5, 2)]),
        ("1.31.1", [(7, 5), (8, 0), (8, 7), (8, 9), (9, 0), (12, 1)], [(6, 1), (7, 0), (10, 0), (11, 0)]),
        ("1.29.0", [(5, 2), (10, 0)], []),  # not known: ONNX Runtime itself will say
    ],
)
def test_kernels_by_build(version, runs, does_not):
    found = Build(version, (13, 0))
    assert all(has_kernels(fake.gpu(capability=one), found) for one in runs)
    assert not any(has_kernels(fake.gpu(capability=one), found) for one in does_not)


@pytest.mark.parametrize(
    ("version", "cuda", "found", "library", "extra"),
    [
        ("1.31.1", "13.0", CUDA_13, "libcublasLt.so.13", "gpu"),
        ("1.26.0", "12.8", CUDA_12, "libcudart.so.12", "gpu-cu12"),
    ],
)
def test_a_missing_library_is_named_with_its_install_line(machine, monkeypatch, version, cuda, found, library, extra):
    def distributions():
        return [types.SimpleNamespace(metadata={"Name": "nvidia-cublas-cu12"}, version="12.9.3")]

    def load(name):
        if "providers_cuda" in name or name == library:  # the loader names the library that the provider needs
            raise OSError(f"{library}: cannot open shared object file: No such file or directory")
        return Cudnn()

    machine(found)
    monkeypatch.setattr(cuda_libraries, "_load", load)
    monkeypatch.setattr(metadata, "distributions", distributions)
    told = missing(runtime(version, cuda))
    assert f"cannot load what it needs: {library}: cannot open shared object file" in told
    assert f"Expected: libraries of CUDA {found.cuda[0]} and cuDNN 9; found: nvidia-cublas-cu12 12.9.3" in told
    assert told.endswith(f'pip install "scgpt-infer[{extra}]"')


def test_cudnn_that_only_a_kernel_would_miss_is_named_at_the_start(machine):
    machine(absent=("libcudnn.so.9",))
    told = missing(runtime())
    assert "onnxruntime-gpu 1.31.1 (CUDA 13.0) cannot load what it needs: libcudnn.so.9: cannot open" in told
    assert told.endswith(f'{BOTH} && pip install "scgpt-infer[gpu]"')
    assert cudnn() is None


def test_the_cudnn_of_another_cuda_is_named(machine):
    machine(CUDA_13, library=Cudnn(cuda=12090))
    told = missing(runtime())
    assert "libcudnn.so.9 was built for CUDA 12" in told
    assert f'{BOTH} && pip install "scgpt-infer[gpu]"' in told


def test_what_onnxruntime_prints_stays_off_the_output_and_is_not_lost(machine, capsys, caplog):
    def preload():
        print("Failed to load libcublasLt.so.13: no such file")
        warnings.warn("and a warning", stacklevel=1)

    machine(absent=("libonnxruntime_providers_cuda.so",))
    with caplog.at_level(logging.WARNING):
        assert "libonnxruntime_providers_cuda.so" in missing(runtime(preload=preload))
    assert capsys.readouterr().out == ""
    assert "Failed to load libcublasLt.so.13: no such file; and a warning" in caplog.text


def test_bindings_that_are_missing_or_of_another_cuda_are_named(machine, monkeypatch):
    def not_there(name):
        raise metadata.PackageNotFoundError(name)

    machine(bindings="12.9.10")
    told = missing(runtime())
    assert "runs with NVIDIA's package cuda-bindings 13; found: cuda-bindings 12.9.10" in told
    assert told.endswith('pip install "scgpt-infer[gpu]"')
    monkeypatch.setattr(metadata, "version", not_there)
    assert "found: no cuda-bindings" in missing(runtime())


def test_tensorrt_that_is_missing_is_named_and_cuda_runs_without_it(machine):
    machine(absent=("libnvinfer.so.10",))
    assert missing(runtime(), "cuda") is None
    told = missing(runtime(), "tensorrt")
    assert "needs TensorRT 10" in told
    assert "libnvinfer.so.10: cannot open" in told
    assert "--provider cuda" in told


@pytest.mark.parametrize(
    ("found", "extra", "told"),
    [
        (CUDA_13, "gpu", 'For NVIDIA driver 580.65.06 (CUDA 13.0): pip install "scgpt-infer[gpu]"'),
        (CUDA_12, "gpu-cu12", 'For NVIDIA driver 550.54.15 (CUDA 12.4): pip install "scgpt-infer[gpu-cu12]"'),
        (CUDA_11, "gpu-cu12", "is too old: update it to 525 or newer"),
        (None, "gpu", 'driver 580 or newer: pip install "scgpt-infer[gpu]"; with 525 or newer: [gpu-cu12]'),
    ],
)
def test_the_driver_decides_what_to_install(found, extra, told):
    assert advised_extra(found) == extra
    assert told in advice(found)


def test_a_build_for_processors_is_none():
    assert build(types.SimpleNamespace(__version__="1.32.0", cuda_version="")) is None
    assert build(runtime()) == Build("1.31.1", (13, 0))
    assert (build(runtime()).extra, build(runtime("1.26.0", "12.8")).extra) == ("gpu", "gpu-cu12")
