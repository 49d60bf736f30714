"""The doctor: what it finds on a machine that is well, and on some that are not."""

import json
from importlib import metadata

import pytest

import fake_driver as fake
from scgpt_infer import doctor
from scgpt_infer.cli.doctor import report
from scgpt_runtime import providers
from scgpt_runtime.cuda_libraries import Build
from scgpt_runtime.errors import MissingDependencyError
from scgpt_runtime.gpus import Driver
from scgpt_runtime.routes import CudaVersions


def test_a_machine_that_is_well(toy_model):
    found = doctor.examine(toy_model)
    assert found.problems == ()
    assert {"cpu", "openvino"} <= set(found.providers)
    assert found.runs is not None
    assert f"{found.cores_usable} instance" in found.runs
    assert found.versions["onnxruntime"] == metadata.version("onnxruntime")
    assert found.memory.total is not None
    assert json.loads(found.to_json())["memory"]["total"] == found.memory.total


def test_without_onnxruntime_the_install_line_is_told(toy_model, monkeypatch):
    def missing():
        raise MissingDependencyError('pip install "scgpt-infer[cpu]"')

    monkeypatch.setattr(providers, "onnxruntime", missing)
    found = doctor.examine(toy_model)
    assert "cpu" not in found.providers
    text = report(found)
    assert 'pip install "scgpt-infer[cpu]"' in text


def test_two_onnxruntimes_are_told_with_the_repair(toy_model, monkeypatch):
    both = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0", "openvino": "2026.4.1"}
    monkeypatch.setattr(providers, "installed", lambda: both)
    monkeypatch.setattr(providers, "_place", lambda name: "one folder")
    (problem,) = doctor.examine(toy_model).problems
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in problem


def test_an_extra_that_lacks_a_package_names_it(monkeypatch):
    version = metadata.version

    def without_torch(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_torch)
    assert doctor.missing_packages()["export"] == ("torch",)


@pytest.mark.parametrize(("limit", "expected"), [("2147483648\n", 2**31), ("max\n", None)])
def test_memory_counts_the_limit_of_a_container(tmp_path, limit, expected):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  4 kB\nMemAvailable:  3 kB\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(limit)
    assert doctor.memory(tmp_path) == doctor.Memory(4096, 3072, expected)


@pytest.fixture
def machine(monkeypatch):
    """Pretend a driver, GPUs, a build of ONNX Runtime for CUDA, and what keeps it from running."""

    def pretend(granted=(), driver=None, build=None, obstacle="no GPU"):
        ask = providers.obstacle
        monkeypatch.setattr(providers, "obstacle", lambda name: obstacle if name in providers.ON_GPU else ask(name))
        monkeypatch.setattr(providers, "cuda_versions", lambda: CudaVersions((1, 31), (9, 28, 1)))
        for module in (providers, doctor):
            monkeypatch.setattr(module, "driver", lambda: driver)
            monkeypatch.setattr(module, "gpus", lambda: granted)
            monkeypatch.setattr(module, "build", lambda runtime: build)
        monkeypatch.setattr(doctor, "why_none", lambda: "why there is no GPU")
        monkeypatch.setattr(
            doctor, "candidates", lambda manifest: (_ for _ in ()).throw(MissingDependencyError("none"))
        )

    return pretend


CUDA_13, CUDA_12 = Driver("580.65.06", (13, 0)), Driver("550.54.15", (12, 4))


def test_each_gpu_is_told_with_all_that_decides_what_runs_on_it(toy_model, machine):
    granted = (fake.gpu(), fake.gpu(1, *fake.V100))
    machine(granted, CUDA_13, Build("1.31.1", (13, 0)), obstacle=None)
    found = doctor.examine(toy_model)
    text = report(found)
    assert "cuda" in found.providers
    assert "driver      NVIDIA driver 580.65.06 (CUDA 13.0)" in text
    assert "cuda        onnxruntime-gpu 1.31.1 (CUDA 13.0), cuDNN 9.28.1" in text
    assert "gpu 0       NVIDIA H100 80GB HBM3, compute capability 9.0, 79.0 GiB free of 80.0 GiB" in text
    assert "expected: cuda fp16, cuda-packed" in text
    assert "gpu 1       Tesla V100-SXM2-16GB, compute capability 7.0" in text
    assert "expected: nothing that runs on it" in text
    first, second = json.loads(found.to_json())["graphics"]["gpus"]
    assert (first["index"], first["free"], first["expected"]) == (0, 79 * fake.GIB, "cuda fp16, cuda-packed")
    assert second["expected"] is None


def test_a_gpu_that_runs_leaves_openvino_unmissed(toy_model, machine, monkeypatch):
    machine((fake.gpu(),), CUDA_13, Build("1.31.1", (13, 0)), obstacle=None)
    monkeypatch.setattr(providers, "_openvino_obstacle", lambda: "OpenVINO is not installed.")
    assert "OpenVINO is not installed." not in doctor.examine(toy_model).problems


def test_a_driver_beside_a_build_for_processors_is_a_problem_with_the_extra_that_suits(toy_model, machine):
    machine((fake.gpu(),), CUDA_12, obstacle='For NVIDIA driver 550.54.15: pip install "scgpt-infer[gpu-cu12]"')
    found = doctor.examine(toy_model)
    assert any("[gpu-cu12]" in problem for problem in found.problems)
    assert "cuda        no ONNX Runtime for CUDA, cuDNN not loaded" in report(found)


def test_a_machine_without_a_driver_has_no_problem_and_a_reason(toy_model, machine):
    machine()
    found = doctor.examine(toy_model)
    assert "gpu         none: why there is no GPU" in report(found)
    assert "no GPU" not in found.problems
    assert found.graphics.gpus == ()


def test_a_driver_that_grants_no_gpu_says_why(toy_model, machine):
    machine((), CUDA_13, Build("1.31.1", (13, 0)), obstacle="hidden by CUDA_VISIBLE_DEVICES")
    found = doctor.examine(toy_model)
    assert "gpu         none: why there is no GPU" in report(found)
    assert "hidden by CUDA_VISIBLE_DEVICES" in found.problems
