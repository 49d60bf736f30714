"""Fixtures that several test folders share."""

import gc
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from once import made_once

if TYPE_CHECKING:
    from scgpt_export.build import Prepared
    from scgpt_runtime.gpus import Gpu

GOLDEN = Path(__file__).parent / "golden"

_LONG = ("test_contract.py", "test_kills.py", "test_processes.py", "test_sink.py")
"""Files that take long, or come late and take a while, though none of their tests is slow."""

settings.register_profile("busy machines", deadline=None)  # no test is timed: benchmarks are
settings.load_profile("busy machines")


def pytest_configure() -> None:
    """Hear Ctrl-C and a hang-up even where a shell or nohup started the tests and had them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: a process takes whole ones, and none should be left alone with one in the end."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.path.name in _LONG}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """Keep the million objects that imports have made out of every collection of garbage to come; collect seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    if "torch" in sys.modules:
        _one_registry()


def _one_registry() -> None:
    """Have torch read the signatures of its thousand ONNX operators once, not at each of the suite's exports."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = classmethod(cache(ONNXRegistry.from_torchlib.__func__))


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
def small_prepared() -> "Callable[[], Prepared]":
    """Gives the original's small checkpoint, its graphs traced for every precision when it is first asked for."""

    @cache
    def prepared() -> "Prepared":
        from scgpt_export.build import ExportOptions, prepare
        from scgpt_export.checkpoint import load

        return prepare(load(GOLDEN / "small_checkpoint"), ExportOptions(("fp32", "fp16")), lambda line: None)

    return prepared


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, small_prepared: "Callable[[], Prepared]") -> Path:
    """The original's small checkpoint, exported in every precision. Tests must not change it."""

    def make(folder: Path) -> None:
        from scgpt_export.build import ExportOptions, assemble

        assemble(small_prepared(), folder / "tiny", ExportOptions(("fp32", "fp16", "int8")), lambda line: None)

    return made_once(tmp_path_factory, "tiny", make) / "tiny"


@pytest.fixture(scope="session")
def exported_batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``checkpoint``, golden weights with batch normalisation, and ``bundle``, exported of it in fp32."""

    def make(folder: Path) -> None:
        import batches_folder
        from scgpt_export.build import ExportOptions, export
        from scgpt_export.checkpoint import load

        export(load(batches_folder.write(folder / "checkpoint")), folder / "bundle", ExportOptions(("fp32",)))

    return made_once(tmp_path_factory, "batches", make)


@pytest.fixture(scope="session")
def exported_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``checkpoint``, golden weights of a perturbation generator, and ``bundle``, exported of it as by default."""

    def make(folder: Path) -> None:
        import generator_folder
        from scgpt_export.build import export
        from scgpt_export.checkpoint import load

        export(load(generator_folder.write(folder / "checkpoint")), folder / "bundle")

    return made_once(tmp_path_factory, "generator", make)
