"""Which session runs which provider; the sessions themselves have tests of their own."""

import pytest

import toy_bundle as toy
from scgpt_runtime import runners
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, ProviderError
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.runners import open_graph, open_head


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return Bundle.open(toy.write(tmp_path_factory.mktemp("toy") / "toy"))


def choice(provider, **changes):
    told = {"precision": "fp32", "sealed": "fp32", "dialect": "portable", "instances": 1, "threads": 1, "why": ""}
    return ProviderChoice(provider, **(told | changes))


@pytest.mark.parametrize(
    ("provider", "session"),
    [
        ("cpu", "Session"),
        ("openvino", "OpenVINOSession"),
        ("cuda", "GpuSession"),
        ("tensorrt", "TensorRTSession"),
    ],
)
def test_each_provider_has_its_session(bundle, tmp_path, monkeypatch, provider, session):
    asked = []
    monkeypatch.setattr(getattr(runners, session), "open", lambda path, *more: asked.append((path, *more)) or session)
    assert open_graph(bundle, "embed", choice(provider), tmp_path) == session
    ((path, told, *more),) = asked
    assert path == bundle.file("graphs/embed.onnx")
    assert told == choice(provider)
    if provider == "tensorrt":
        cache, digest, longest = more
        assert (cache, longest) == (tmp_path, toy.SETTINGS.max_length)
        assert len(digest) == 64


def test_a_digest_is_that_of_all_files(bundle, tmp_path):
    (same, other) = (toy.write(tmp_path / "same"), toy.write(tmp_path / "other", external=None))
    assert runners._digest(Bundle.open(same)) == runners._digest(bundle)
    assert runners._digest(Bundle.open(other)) != runners._digest(bundle)


def test_a_graph_that_is_not_sealed_is_an_error(bundle):
    with pytest.raises(BundleError, match="no cuda-packed graph"):
        open_graph(bundle, "embed", choice("cuda", dialect="cuda-packed"))
    with pytest.raises(ProviderError, match="sealed: fp32"):
        open_graph(bundle, "embed", choice("cuda", sealed="fp16"))


@pytest.mark.parametrize("sealed", ["fp32", "bf16"])
def test_a_head_runs_on_the_processor_in_a_precision_that_has_it(bundle, sealed):
    head = open_head(bundle, "embed", sealed)
    assert head.provider.startswith("CPUExecutionProvider")
    head.close()
