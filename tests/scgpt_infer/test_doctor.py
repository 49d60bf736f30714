"""The doctor: what it finds on a machine that is well, and on some that are not."""

import json
from importlib import metadata

import pytest

from scgpt_infer import doctor
from scgpt_infer.cli.doctor import report
from scgpt_runtime import providers
from scgpt_runtime.errors import MissingDependencyError


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
