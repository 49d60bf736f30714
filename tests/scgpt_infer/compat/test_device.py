"""Devices as PyTorch names them, on machines with a GPU and without."""

import pytest

from scgpt_infer.compat import CompatWarning, device
from scgpt_runtime.errors import OptionError


@pytest.fixture
def machine(monkeypatch):
    """Say what keeps each provider from running."""

    def has(*, gpu: str | None = None, cuda: str | None = None, openvino: str | None = None) -> None:
        monkeypatch.setattr(device, "why_none", lambda: gpu)
        monkeypatch.setattr(device, "obstacle", {"cuda": cuda, "openvino": openvino}.get)

    return has


def test_a_processor_takes_what_is_fastest(machine):
    machine(gpu="no driver", cuda="no CUDA")
    assert device.place("cpu") == ("auto", "auto")


@pytest.mark.parametrize(("why", "told"), [({"gpu": "no driver"}, "no driver"), ({"cuda": "install it"}, "install it")])
def test_cuda_without_a_gpu_is_the_processor_and_the_reason_is_told_where_it_was_asked_for(machine, why, told):
    machine(**why)
    with pytest.warns(CompatWarning, match=f"'cuda', but the processor runs it: {told}") as warned:
        assert device.place("cuda") == ("auto", "auto")
    assert warned[0].filename == __file__


def test_a_gpu_is_taken_by_its_number(machine):
    machine()
    assert device.place("cuda") == ("cuda", "auto")
    assert device.place("cuda:1") == ("cuda", "1")


def test_cpu_keeps_off_the_gpu(machine):
    machine()
    assert device.place("cpu") == ("openvino", "auto")
    machine(openvino="not installed")
    assert device.place("cpu") == ("cpu", "auto")


@pytest.mark.parametrize("wrong", ["mps", "cuda:first", "", "gpu"])
def test_another_device_is_refused(machine, wrong):
    machine()
    with pytest.raises(OptionError, match=r"expected cpu, cuda, or cuda:N"):
        device.place(wrong)
