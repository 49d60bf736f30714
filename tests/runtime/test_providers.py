import logging
import os
import subprocess
import sys
import threading
import types
from importlib import metadata

import pytest

import fake_driver as fake
from scgpt_runtime import providers
from scgpt_runtime.cuda_libraries import Build
from scgpt_runtime.errors import MissingDependencyError, ProviderError
from scgpt_runtime.gpus import Driver
from scgpt_runtime.machine import Processor
from scgpt_runtime.providers import ProviderChoice, available, clash, installed, obstacle, openvino_core


def pretend_installed(monkeypatch, **versions):
    def version(name):
        if name.replace("-", "_") not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    def distribution(name):
        return types.SimpleNamespace(locate_file=lambda path: f"/site/{path}")

    monkeypatch.setattr(providers.metadata, "version", version)
    monkeypatch.setattr(providers.metadata, "distribution", distribution)


def test_the_processor_is_no_obstacle():
    assert obstacle("cpu") is None


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_that_cannot_be_had_gives_the_line_that_installs_it(provider):
    told = obstacle(provider)
    assert f"Provider {provider} cannot run here: the installed ONNX Runtime offers" in told
    assert 'pip uninstall -y onnxruntime && pip install "scgpt-infer[gpu]"' in told


def test_a_driver_without_a_build_for_it_gets_the_one_that_suits(monkeypatch):
    monkeypatch.setattr(providers, "driver", lambda: Driver("550.54.15", (12, 4)))
    told = obstacle("cuda")
    assert "For NVIDIA driver 550.54.15 (CUDA 12.4)" in told
    assert 'pip uninstall -y onnxruntime && pip install "scgpt-infer[gpu-cu12]"' in told


def test_a_build_for_gpus_is_asked_what_it_lacks(monkeypatch):
    monkeypatch.setattr(providers, "available", lambda: ("CUDAExecutionProvider", "CPUExecutionProvider"))
    monkeypatch.setattr(providers, "missing", lambda runtime, provider: f"{provider} lacks something")
    assert obstacle("cuda") == "cuda lacks something"
    assert "offers CUDAExecutionProvider" in obstacle("tensorrt")


@pytest.mark.parametrize(
    ("versions", "found", "expected"),
    [
        ({"onnxruntime": "1.32.0"}, None, False),
        ({"onnxruntime_gpu": "1.31.1"}, None, True),
        ({"onnxruntime": "1.32.0"}, Driver("580.65.06", (13, 0)), True),
    ],
)
def test_a_gpu_is_expected_where_something_was_set_up_for_one(monkeypatch, versions, found, expected):
    pretend_installed(monkeypatch, **versions)
    monkeypatch.setattr(providers, "driver", lambda: found)
    assert providers.gpu_expected() is expected


def test_gpus_without_kernels_in_the_build_are_not_usable(monkeypatch):
    monkeypatch.setattr(providers, "build", lambda runtime: Build("1.31.1", (13, 0)))
    monkeypatch.setattr(providers, "gpus", lambda: (fake.gpu(0, *fake.V100), fake.gpu(1)))
    assert [gpu.index for gpu in providers.usable_gpus()] == [1]


def test_openvino_beside_a_build_for_gpus_comes_without_a_second_onnxruntime(monkeypatch):
    pretend_installed(monkeypatch, onnxruntime_gpu="1.31.1")
    assert obstacle("openvino").endswith("pip install openvino")


def test_a_question_about_gpus_imports_nothing_of_cuda():
    code = (
        "import sys; from scgpt_runtime.providers import obstacle; assert obstacle('cuda'); "
        "assert not [name for name in sys.modules if name.split('.')[0] in ('cuda', 'pynvml')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_openvino_that_is_not_installed_gives_the_line_that_installs_it(monkeypatch):
    pretend_installed(monkeypatch, onnxruntime="1.32.0")
    assert 'pip install "scgpt-infer[cpu]"' in obstacle("openvino")


def test_openvino_that_does_not_load_gives_the_line_that_installs_it(monkeypatch):
    providers._opened_core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[cpu\]"'):
        openvino_core()
    assert providers.openvino_computes() == ()
    assert "cannot be loaded" in obstacle("openvino")


def test_openvino_without_a_processor_that_it_knows_is_an_obstacle(monkeypatch):
    monkeypatch.setattr(providers, "openvino_computes", lambda: ())
    assert "no processor" in obstacle("openvino")


def test_openvino_is_loaded_without_its_telemetry():
    openvino_core()
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]


def test_openvino_is_loaded_once_however_many_ask_at_a_time():
    providers._opened_core.cache_clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(openvino_core())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({id(core) for core in found}) == 1


def test_a_forked_process_is_told_before_it_waits_forever(monkeypatch):
    openvino_core()
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(ProviderError, match="spawn"):
        openvino_core()


def test_bf16_that_is_emulated_does_not_count(monkeypatch):
    monkeypatch.setattr(providers, "processor", lambda: Processor("old", "x86_64", ("avx512_vnni", "avx512f")))
    assert "bf16" not in providers.openvino_computes()
    assert "fp32" in providers.openvino_computes()


@pytest.mark.skipif(sys.platform != "linux", reason="where ONNX Runtime keeps its device number elsewhere is not known")
def test_onnxruntime_leaves_no_number_of_the_device(tmp_path):
    code = "from scgpt_runtime.providers import onnxruntime; onnxruntime().get_available_providers()"
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | home)
    assert not [path for path in tmp_path.rglob("*") if "microsoft" in str(path).lower()]


def test_without_onnxruntime_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[cpu\]"'):
        available()
    assert 'pip install "scgpt-infer[cpu]"' in obstacle("cpu")


def test_remains_of_onnxruntime_give_the_repair(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(MissingDependencyError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        available()


def test_two_distributions_are_a_warning_on_the_cpu_and_an_obstacle_on_a_gpu(monkeypatch, caplog):
    pretend_installed(monkeypatch, onnxruntime="1.32.0", onnxruntime_gpu="1.30.0")
    with caplog.at_level(logging.WARNING):
        assert obstacle("cpu") is None
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install" in caplog.text
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install" in obstacle("cuda")


def test_two_distributions_in_two_places_are_no_clash(monkeypatch):
    pretend_installed(monkeypatch, onnxruntime="1.32.0", onnxruntime_gpu="1.30.0")

    def distribution(name):
        return types.SimpleNamespace(locate_file=lambda path: f"/{name}/{path}")

    monkeypatch.setattr(providers.metadata, "distribution", distribution)
    assert clash() is None


def test_one_distribution_is_no_clash(monkeypatch):
    pretend_installed(monkeypatch, onnxruntime_gpu="1.30.0")
    assert clash() is None
    assert installed() == {"onnxruntime-gpu": "1.30.0"}


def test_another_graph_of_the_same_precision_is_another_arithmetic():
    dynamic = ProviderChoice("cpu", "int8", "int8", "portable", 2, 1, "")
    static = ProviderChoice("openvino", "int8", "int8", "openvino", 2, 1, "")
    assert dynamic.arithmetic == "int8"
    assert static.arithmetic != dynamic.arithmetic
    assert ProviderChoice("openvino", "fp32", "fp32", "portable", 2, 1, "").arithmetic == "fp32"
