import logging
import sys
import types
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

import toy_bundle as toy
from scgpt_runtime import providers
from scgpt_runtime.errors import MissingDependencyError, OptionError, ProviderError
from scgpt_runtime.providers import CoreReport, available, choose, clash, cores, installed


def sealed(*precisions):
    (graph,) = toy.manifest().graphs
    graphs = tuple(replace(graph, precision=name, path=f"{name}.onnx") for name in precisions)
    return toy.manifest(precisions=precisions, graphs=graphs, vector_ids=dict.fromkeys(precisions, "x"))


def pretend_installed(monkeypatch, **versions):
    def version(name):
        if name.replace("-", "_") not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(providers.metadata, "version", version)


def test_auto_is_fp32_on_the_cpu_and_says_why():
    choice = choose(sealed("fp32", "fp16"))
    assert (choice.provider, choice.onnxruntime_name, choice.precision) == ("cpu", "CPUExecutionProvider", "fp32")
    assert choice.dialect == "portable"
    assert "fp32" in choice.why


def test_a_bundle_without_fp32_runs_its_best_precision():
    assert choose(sealed("fp16", "int8")).precision == "fp16"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_sealed_precision_runs_when_asked(precision):
    assert choose(sealed("fp32", "fp16", "int8"), precision=precision).precision == precision


def test_a_precision_that_is_not_sealed_lists_those_that_are():
    with pytest.raises(ProviderError, match=r"no bf16 .*sealed: fp32, fp16"):
        choose(sealed("fp32", "fp16"), precision="bf16")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_that_cannot_be_had_gives_the_line_that_installs_it(provider):
    with pytest.raises(ProviderError, match=r"pip install 'scgpt-infer\[gpu\]'"):
        choose(sealed("fp32"), provider)


def test_what_this_version_cannot_run_is_refused():
    with pytest.raises(ProviderError, match="--provider cpu"):
        choose(sealed("fp32"), "openvino")


@pytest.mark.parametrize(
    "told", [{"provider": "gpu"}, {"threads": 0}, {"device": "1"}, {"device": "all"}, {"device": "x"}]
)
def test_an_option_that_does_not_exist_is_named(told):
    (name,) = told
    with pytest.raises(OptionError, match=name):
        choose(sealed("fp32"), **told)


def test_without_onnxruntime_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[cpu\]"'):
        available()


def test_remains_of_onnxruntime_give_the_repair(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(MissingDependencyError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        available()


def test_two_distributions_are_a_warning_on_the_cpu_and_an_error_on_a_gpu(monkeypatch, caplog):
    pretend_installed(monkeypatch, onnxruntime="1.32.0", onnxruntime_gpu="1.30.0")
    with caplog.at_level(logging.WARNING):
        assert choose(sealed("fp32")).provider == "cpu"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install" in caplog.text
    with pytest.raises(ProviderError, match=r'pip uninstall -y onnxruntime onnxruntime-gpu && .*"scgpt-infer\[gpu\]"'):
        choose(sealed("fp32"), "cuda")


def test_one_distribution_is_no_clash(monkeypatch):
    pretend_installed(monkeypatch, onnxruntime_gpu="1.30.0")
    assert clash() is None
    assert installed() == {"onnxruntime-gpu": "1.30.0"}


def test_threads_are_what_was_asked_for_or_what_is_granted():
    assert choose(sealed("fp32"), threads=3).threads == 3
    assert choose(sealed("fp32")).threads == cores().usable


@pytest.mark.parametrize(
    ("report", "usable"),
    [
        (CoreReport(64, 64, None), 64),
        (CoreReport(64, 8, None), 8),
        (CoreReport(64, 64, 4.0), 4),
        (CoreReport(64, 2, 4.0), 2),
        (CoreReport(64, 64, 2.5), 2),
        (CoreReport(64, 64, 0.5), 1),
    ],
)
def test_never_more_than_affinity_and_control_group_grant(report, usable):
    assert report.usable == usable


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


GROUPS = "sys/fs/cgroup/"


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/\n", {GROUPS + "cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {GROUPS + "cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {GROUPS + "a/cpu.max": "200000 100000\n", GROUPS + "a/b/cpu.max": "max 100000\n"}, 2.0),
        ("0::/host/only/path\n", {GROUPS + "cpu.max": "300000 100000\n"}, 3.0),
        ("0::/../../x\n", {GROUPS + "cpu.max": "rubbish\n"}, None),
        (
            "5:cpu,cpuacct:/job\n3:memory:/job\n",
            {
                GROUPS + "cpu,cpuacct/job/cpu.cfs_quota_us": "400000",
                GROUPS + "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        (
            "5:cpu,cpuacct:/docker/xyz\n",
            {GROUPS + "cpu/cpu.cfs_quota_us": "250000\n", GROUPS + "cpu/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        ("5:cpu:/\n", {GROUPS + "cpu/cpu.cfs_quota_us": "-1\n", GROUPS + "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_control_groups_of_both_versions_are_read(tmp_path, cgroup, files, limit):
    assert cores(machine(tmp_path, cgroup, files)).limit == limit


def test_a_machine_without_control_groups_has_no_limit(tmp_path):
    assert cores(tmp_path).limit is None
