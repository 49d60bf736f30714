from dataclasses import replace

import pytest

import fake_driver as fake
import toy_bundle as toy
from scgpt_runtime import gpu_choices as rule
from scgpt_runtime.errors import OptionError, ProviderError
from scgpt_runtime.gpu_choices import check_device, gpu_choices
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.routes import CudaVersions

FUSED = ("cuda-packed", "cuda-lengths", "cuda-flash", "cuda-exact")
FP16 = [("fp16", route) for route in (*FUSED, "portable")]
BF16 = [("bf16", route) for route in FUSED[1:]]
FP32 = [("fp32", "portable")]


def graphs(*sealed):
    (graph,) = toy.manifest().graphs
    return [replace(graph, precision=precision, dialect=dialect) for precision, dialect in sealed]


@pytest.fixture
def on(monkeypatch):
    """Pretend GPUs, of which those without kernels in the installed build are left out."""

    def pretend(*there, unable=()):
        monkeypatch.setattr(rule, "gpus", lambda: there)
        monkeypatch.setattr(rule, "usable_gpus", lambda: tuple(gpu for gpu in there if gpu.index not in unable))
        monkeypatch.setattr(rule, "cuda_versions", lambda: CudaVersions((1, 31), (9, 28, 1)))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return pretend


def ranked(precision="auto", device="auto", instances=None, provider="cuda", sealed=(*FP32, *FP16)):
    return gpu_choices(provider, precision, device, instances, graphs(*sealed))


def test_the_rule_takes_fp16_by_the_routes_expected_fastest_then_bf16_then_fp32(on):
    on(fake.gpu())
    found = [(one.precision, one.dialect) for one in ranked(sealed=(*FP32, *BF16, *FP16))]
    assert found == [*(("fp16", route) for route in FUSED), *BF16, *FP32]
    assert FUSED == CUDA_DIALECTS


def test_a_bundle_without_graphs_for_cuda_runs_its_standard_ones(on):
    on(fake.gpu())
    found = ranked(sealed=(("fp16", "portable"), *FP32))
    assert [(one.precision, one.sealed, one.dialect) for one in found] == [
        ("fp16", "fp16", "portable"),
        ("fp32", "fp32", "portable"),
    ]


def test_what_was_asked_for_alone_is_offered(on):
    on(fake.gpu())
    assert [one.precision for one in ranked("fp32")] == ["fp32"]
    assert ranked("bf16") == []
    assert ranked("int8", sealed=(*FP32, ("int8", "portable"))) == []


def test_tensorrt_runs_the_standard_graphs(on):
    on(fake.gpu())
    found = [(one.provider, one.precision, one.dialect) for one in ranked(provider="tensorrt")]
    assert found == [("tensorrt", "fp16", "portable"), ("tensorrt", "fp32", "portable")]


def test_one_gpu_unless_more_are_asked_for_and_the_others_are_told(on):
    on(fake.gpu(), fake.gpu(1))
    first = ranked()[0]
    assert (first.devices, first.instances, first.threads) == ((0,), 2, 1)
    assert "1 more could run too: --device all" in first.why
    assert first.name == "cuda fp16, 2 instances on device 0, cuda-packed"


@pytest.mark.parametrize("device", ["all", "0,1"])
def test_all_gpus_have_two_instances_each(on, device):
    on(fake.gpu(), fake.gpu(1))
    first = ranked(device=device)[0]
    assert (first.devices, first.instances) == ((0, 1), 4)
    assert first.name == "cuda fp16, 4 instances on devices 0, 1, cuda-packed"


def test_instances_are_those_of_all_devices(on):
    on(fake.gpu(), fake.gpu(1))
    assert ranked(device="all", instances=6)[0].instances == 6
    with pytest.raises(OptionError, match="instances is 1, but 2 devices"):
        ranked(device="all", instances=1)


def test_all_means_all_of_one_kind_so_that_a_cell_has_the_same_bits_on_each(on):
    on(fake.gpu(), fake.gpu(1, *fake.A100), fake.gpu(2))
    first = ranked(device="all")[0]
    assert first.devices == (0, 2)
    assert "left out, not of this kind: 1 (NVIDIA A100" in first.why
    with pytest.raises(OptionError, match="of 2 kinds"):
        ranked(device="0,1")


def test_a_gpu_without_kernels_is_passed_over_and_refused_by_name(on):
    on(fake.gpu(0, *fake.V100), fake.gpu(1), unable=(0,))
    assert ranked()[0].devices == (1,)
    assert ranked(device="all")[0].devices == (1,)
    with pytest.raises(ProviderError, match=r"Device 0 \(Tesla V100-SXM2-16GB\) has .* 7\.0.*1 \(NVIDIA H"):
        ranked(device="0")


def test_an_older_gpu_runs_what_its_kernels_allow(on):
    on(fake.gpu(0, "Tesla T4", (7, 5)))
    found = [(one.precision, one.dialect) for one in ranked(sealed=(*FP32, *BF16, *FP16))]
    assert found == [("fp16", "cuda-exact"), *FP32]


def test_a_device_that_does_not_exist_lists_those_that_do(on, monkeypatch):
    on(fake.gpu(), fake.gpu(1))
    with pytest.raises(OptionError, match=r"no device 2; found: 0 \(NVIDIA H100 80GB HBM3\), 1 \(NVIDIA H100"):
        ranked(device="0,2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(OptionError, match='CUDA_VISIBLE_DEVICES="4,5" leaves these, numbered from 0'):
        ranked(device="4")


@pytest.mark.parametrize("device", ["", "x", "-1", "0,", "0,a", "0, 1", "auto,0", "all,1", "1.0"])
def test_a_device_is_written_in_one_way(device):
    with pytest.raises(OptionError, match="expected auto, all, a number as 0, or numbers as 0,1"):
        check_device(device)


@pytest.mark.parametrize("device", ["0,0", "1,01"])
def test_a_device_is_named_once(device):
    with pytest.raises(OptionError, match="twice"):
        check_device(device)
