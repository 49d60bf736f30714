"""Fixtures that several test folders share."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from scgpt_runtime.gpus import Gpu

GOLDEN = Path(__file__).parent / "golden"

settings.register_profile("busy machines", deadline=None)  # no test is timed: benchmarks are
settings.load_profile("busy machines")


def pytest_configure() -> None:
    """Hear Ctrl-C and a hang-up even where a shell or nohup started the tests and had them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def golden_files() -> Path:
    """Folder of the original scGPT's inputs and outputs."""
    return GOLDEN


@pytest.fixture(scope="session")
def gpu() -> "Gpu":
    """The first GPU. Its test is skipped where there is none, and fails where there is one that cannot be used."""
    from scgpt_runtime.gpus import gpus, why_none
    from scgpt_runtime.providers import ONNXRUNTIME_NAMES, available, obstacle

    found = gpus()
    if not found:
        pytest.skip(why_none() or "no GPU")
    if ONNXRUNTIME_NAMES["cuda"] not in available():
        pytest.skip("the installed ONNX Runtime is one for processors")
    problem = obstacle("cuda")
    assert problem is None, problem
    return found[0]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original's small checkpoint, exported in every precision. Tests must not change it."""
    from scgpt_export.build import ExportOptions, export
    from scgpt_export.checkpoint import load

    output = tmp_path_factory.mktemp("bundle") / "tiny"
    export(load(GOLDEN / "small_checkpoint"), output, ExportOptions(("fp32", "fp16", "int8")))
    return output
