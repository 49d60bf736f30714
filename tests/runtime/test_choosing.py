import logging
from dataclasses import replace

import pytest

import fake_driver as fake
import toy_bundle as toy
from scgpt_runtime import choosing, gpu_choices
from scgpt_runtime.choosing import Asked, candidates, layouts
from scgpt_runtime.errors import OptionError, ProviderError
from scgpt_runtime.machine import CoreReport, Processor
from scgpt_runtime.manifest import ParityRecord
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.routes import CudaVersions

PLAIN = ("avx512f", "avx2")


def sealed(*precisions, static=None):
    """A toy with these precisions; with static int8 for OpenVINO if its figure is given."""
    (graph,) = toy.manifest().graphs
    graphs = tuple(replace(graph, precision=name, path=f"{name}.onnx") for name in precisions)
    parity = ()
    if static is not None:
        graphs += (replace(graph, precision="int8", dialect="openvino", path="static.onnx"),)
        record = ParityRecord("embed", "int8", "CPUExecutionProvider 1", "1-cosine", static, 1e-2, 16, "openvino")
        parity = (record,)
    return toy.manifest(parity=parity, precisions=precisions, graphs=graphs, vector_ids=dict.fromkeys(precisions, "x"))


@pytest.fixture
def on(monkeypatch):
    """Pretend a processor: what OpenVINO computes there (None: OpenVINO is not installed), and its features; and an
    H100, unless there is an obstacle to it.
    """

    def pretend(computes, features=PLAIN, cores=4, no_gpu="no GPU is here", gpu_expected=False):
        problem = None if computes else 'OpenVINO is not installed. Install it: pip install "scgpt-infer[cpu]"'
        obstacles = {"openvino": problem, "cuda": no_gpu, "tensorrt": no_gpu}
        monkeypatch.setattr(choosing, "openvino_computes", lambda: computes or ())
        monkeypatch.setattr(choosing, "obstacle", obstacles.get)
        monkeypatch.setattr(choosing, "gpu_expected", lambda: gpu_expected)
        monkeypatch.setattr(gpu_choices, "gpus", lambda: (fake.gpu(),))
        monkeypatch.setattr(gpu_choices, "usable_gpus", lambda: (fake.gpu(),))
        monkeypatch.setattr(gpu_choices, "cuda_versions", lambda: CudaVersions((1, 31), (9, 28, 1)))
        monkeypatch.setattr(choosing, "processor", lambda: Processor("chip", "x86_64", features))
        monkeypatch.setattr(choosing, "cores", lambda: CoreReport(cores, cores, None))

    return pretend


def ranked(*told, **asked):
    return [(choice.provider, choice.precision) for choice in candidates(sealed(*told), Asked(**asked))]


def test_bf16_in_hardware_comes_first_and_says_so(on):
    on(("bf16", "fp32", "int8"), ("amx_bf16", *PLAIN))
    first, *rest = candidates(sealed("fp32", "int8"))
    assert (first.provider, first.precision, first.sealed, first.dialect) == ("openvino", "bf16", "fp32", "portable")
    assert "amx_bf16" in first.why
    assert [(choice.provider, choice.precision) for choice in rest] == [("openvino", "fp32"), ("cpu", "fp32")]


def test_without_bf16_the_reference_precision_comes_first(on):
    on(("fp32", "int8"))
    assert ranked("fp32", "int8") == [("openvino", "fp32"), ("cpu", "fp32")]


def test_int8_comes_first_only_in_hardware_without_bf16_and_as_close_as_bf16_must_be(on):
    near, far = sealed("fp32", "int8", static=5e-4), sealed("fp32", "int8", static=5e-3)
    on(("fp32", "int8"), ("avx512_vnni", *PLAIN))
    assert candidates(near)[0].precision == "int8"
    assert candidates(far)[0].precision == "fp32"
    on(("fp32", "int8"))
    assert candidates(near)[0].precision == "fp32"
    on(("bf16", "fp32", "int8"), ("avx512_bf16", "avx512_vnni", *PLAIN))
    assert candidates(near)[0].precision == "bf16"


def test_without_openvino_the_cpu_provider_runs_with_a_warning(on, caplog):
    on(None)
    with caplog.at_level(logging.WARNING):
        (choice,) = candidates(sealed("fp32", "fp16"))
    assert (choice.provider, choice.precision) == ("cpu", "fp32")
    (told,) = caplog.messages
    assert told.startswith("Provider cpu runs, not openvino, so the processor's fast arithmetic is left unused: ")
    assert told.endswith('pip install "scgpt-infer[cpu]"')  # the line to copy comes last, with nothing run onto it


def test_what_was_asked_for_is_not_replaced(on):
    on(None)
    with pytest.raises(ProviderError, match="OpenVINO is not installed"):
        ranked("fp32", provider="openvino")


def test_a_bundle_without_fp32_runs_its_best_precision(on):
    on(("bf16", "fp32"))
    assert ranked("fp16", "int8") == [("cpu", "fp16")]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_sealed_precision_runs_when_asked(on, precision):
    on(("bf16", "fp32", "int8"))
    assert ranked("fp32", "fp16", "int8", precision=precision) == [("cpu", precision)]


def test_int8_is_static_on_openvino_and_dynamic_elsewhere(on):
    on(("bf16", "fp32", "int8"))
    static, dynamic = candidates(sealed("fp32", "int8", static=1e-3), Asked(precision="int8"))
    assert (static.provider, static.dialect, dynamic.provider, dynamic.dialect) == (
        ("openvino", "openvino", "cpu", "portable")
    )


def test_openvino_without_a_static_graph_says_how_to_make_one(on):
    on(("bf16", "fp32", "int8"))
    with pytest.raises(ProviderError, match="--calibrate"):
        ranked("fp32", "int8", provider="openvino", precision="int8")


def test_a_precision_that_is_not_sealed_lists_those_that_are(on):
    on(("fp32",))
    with pytest.raises(ProviderError, match=r"no bf16 .*sealed: fp32, fp16.*OpenVINO computes fp32"):
        ranked("fp32", "fp16", precision="bf16")


@pytest.mark.parametrize(
    "told",
    [{"provider": "gpu"}, {"threads": 0}, {"instances": 0}, {"device": "1"}, {"device": "all"}, {"device": "x"}],
)
def test_an_option_that_does_not_exist_is_named(on, told):
    on(("fp32",))
    (name,) = told
    with pytest.raises(OptionError, match=name):
        candidates(sealed("fp32"), Asked(**told))


def test_a_gpu_comes_first_and_the_processor_is_what_is_left_when_it_fails(on, caplog):
    on(None, no_gpu=None)
    with caplog.at_level(logging.WARNING):
        first, *rest = candidates(sealed("fp32", "fp16"))
    assert (first.provider, first.precision, first.devices) == ("cuda", "fp16", (0,))
    assert [(one.provider, one.precision) for one in rest] == [("cuda", "fp32"), ("cpu", "fp32")]
    assert "provider cuda, for the GPU of this machine" in first.why
    assert caplog.text == ""  # nobody misses OpenVINO on a machine with a GPU


def test_a_gpu_that_was_expected_and_cannot_be_used_is_a_warning(on, caplog):
    on(("bf16", "fp32"), no_gpu="libcublas.so.13 is missing: do this.", gpu_expected=True)
    with caplog.at_level(logging.WARNING):
        assert ranked("fp32")[0][0] == "openvino"
    assert "No GPU is used: libcublas.so.13 is missing: do this." in caplog.text


def test_a_machine_without_a_gpu_hears_nothing_of_one(on, caplog):
    on(("bf16", "fp32"))
    with caplog.at_level(logging.WARNING):
        candidates(sealed("fp32"))
    assert caplog.text == ""


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_cuda_that_was_asked_for_is_an_error_not_a_processor(on, provider):
    on(("bf16", "fp32"), no_gpu="libcublas.so.13 is missing: do this.")
    with pytest.raises(ProviderError, match="is missing: do this"):
        ranked("fp32", provider=provider)


def test_a_device_by_number_is_a_gpu(on):
    on(("bf16", "fp32"), no_gpu=None)
    assert ranked("fp32", "fp16", device="all") == [("cuda", "fp16"), ("cuda", "fp32")]
    with pytest.raises(OptionError, match="a processor is one device"):
        ranked("fp32", provider="cpu", device="all")
    on(("bf16", "fp32"), no_gpu="no driver")
    with pytest.raises(OptionError, match=r"device is '1', but no GPU can be used\. no driver"):
        ranked("fp32", device="1")


def test_instances_for_a_gpu_need_no_cores(on):
    on(("bf16", "fp32"), no_gpu=None, cores=2)
    assert ranked("fp32", instances=4) == [("cuda", "fp32")]
    assert ranked("fp32", instances=2)[-1] == ("cpu", "fp32")


def test_a_precision_that_no_gpu_computes_falls_to_the_processor_or_is_refused(on):
    on(None, no_gpu=None)
    assert ranked("fp32", "int8", precision="int8") == [("cpu", "int8")]
    with pytest.raises(ProviderError, match="Provider cuda runs fp16, bf16, fp32;"):
        ranked("fp32", "int8", precision="int8", provider="cuda")


def test_a_precision_that_is_sealed_for_gpus_alone_is_told_as_that(on):
    on(("bf16", "fp32"))
    (fp32, bf16) = sealed("fp32", "bf16").graphs
    bundle = replace(sealed("fp32", "bf16"), graphs=(fp32, replace(bf16, dialect="cuda-flash")))
    with pytest.raises(ProviderError, match=r"no bf16 graph .* that provider cpu runs here, only those of cuda-flash"):
        candidates(bundle, Asked("cpu", "bf16"))
    assert candidates(bundle, Asked(precision="bf16"))[0].provider == "openvino"


@pytest.mark.parametrize(("asked", "there"), [({"threads": 2, "instances": 3}, 2), ({"instances": 9}, 4)])
def test_more_instances_than_cores_are_refused(on, asked, there):
    on(("bf16", "fp32"), cores=4)
    with pytest.raises(OptionError, match=f"instances is {asked['instances']}, but {there} threads"):
        candidates(sealed("fp32"), Asked(**asked))


def test_threads_that_are_not_there_or_not_used_are_told(on):
    on(("bf16", "fp32"), cores=4)
    assert (
        "8 threads as asked, 4 used by 4 instances of 1 on 4 cores"
        in candidates(sealed("fp32"), Asked(threads=8))[0].why
    )
    assert "3 threads as asked, 2 used" in candidates(sealed("fp32"), Asked(threads=3, instances=2))[0].why
    assert "used" not in candidates(sealed("fp32"), Asked(threads=4))[0].why
    assert candidates(sealed("fp32"), Asked(threads=1))[0].why.endswith("; 1 thread as asked")


@pytest.mark.parametrize(
    ("asked", "instances", "threads"),
    [
        ({}, 4, 1),
        ({"threads": 3}, 3, 1),
        ({"instances": 1}, 1, 4),
        ({"instances": 3}, 3, 1),
        ({"threads": 4, "instances": 2}, 2, 2),
    ],
)
def test_one_instance_a_core_unless_told(on, asked, instances, threads):
    on(("bf16", "fp32"), cores=4)
    choice, *_ = candidates(sealed("fp32"), Asked(**asked))
    assert (choice.instances, choice.threads) == (instances, threads)


@pytest.mark.parametrize(("cores", "ways"), [(1, []), (2, [(1, 2)]), (4, [(1, 4)]), (16, [(4, 4), (1, 16)])])
def test_other_layouts_use_the_same_cores(cores, ways):
    choice = ProviderChoice("cpu", "fp32", "fp32", "portable", cores, 1, "")
    found = [(other.instances, other.threads) for other in layouts(choice)]
    assert found == ways
    assert all(instances * threads == cores for instances, threads in found)


def test_a_gpu_has_no_other_layouts():
    assert layouts(ProviderChoice("cuda", "fp16", "fp16", "cuda-flash", 8, 1, "", (0,))) == ()
