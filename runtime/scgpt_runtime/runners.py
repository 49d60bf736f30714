"""`ProviderChoice` -> an open graph: which session class runs which provider.

In: a bundle, a task, a choice. Out: a `GraphRunner`. It decides nothing.
"""

import hashlib
from pathlib import Path

from scgpt_runtime.answering import GraphRunner, Lent
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.manifest import GraphRecord
from scgpt_runtime.openvino_session import OpenVINOSession
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.session import Session
from scgpt_runtime.tensorrt_session import TensorRTSession

__all__ = ["graph_for", "open_graph", "open_head"]


def graph_for(bundle: Bundle, task: str, choice: ProviderChoice) -> GraphRecord:
    """The graph of a task that a choice runs.

    Raises
    ------
    BundleError, ProviderError
        The bundle has no such graph.
    """
    return bundle.graph(task, choice.sealed, choice.dialect)


def open_graph(bundle: Bundle, task: str, choice: ProviderChoice, cache_dir: Path | None = None) -> GraphRunner:
    """Open a task's graph with the provider that was chosen.

    Parameters
    ----------
    bundle, task, choice
        What to open.
    cache_dir
        Where a provider that compiles may keep what it has compiled; None: nowhere.

    Raises
    ------
    BundleError, ProviderError, MissingDependencyError
        The bundle has no such graph, or it cannot be run here.
    """
    path = bundle.file(graph_for(bundle, task, choice).path)
    match choice.provider:
        case "openvino":
            return OpenVINOSession.open(path, choice)
        case "cuda":
            return GpuSession.open(path, choice)
        case "tensorrt":
            return TensorRTSession.open(path, choice, cache_dir, _digest(bundle), bundle.manifest.tokenizer.max_length)
        case _:
            return Session.open(path, choice)


def open_head(bundle: Bundle, task: str, precision: str = "fp32") -> GraphRunner:
    """Open a head: a graph that takes a model's answers. Heads are small, so ONNX Runtime runs them on one core.

    Parameters
    ----------
    bundle, task
        What to open.
    precision
        Taken where the head has it; else fp32, or what there is.

    Raises
    ------
    BundleError, ProviderError, MissingDependencyError
        The bundle has no such head, or it cannot be run here.
    """
    sealed = [graph.precision for graph in bundle.manifest.graphs if (graph.task, graph.dialect) == (task, "portable")]
    # bf16 has graphs for GPUs alone.
    precision = next((name for name in (precision, "fp32", *sealed) if name in sealed), precision)
    head = ProviderChoice("cpu", precision, precision, "portable", 1, 1, "a head")
    path = bundle.file(bundle.graph(task, precision).path)
    if bundle.kept is None:
        return Session.open(path, head)
    return Lent(bundle.kept.of(("head", task, precision), lambda: Session.open(path, head), Session.close))


def _digest(bundle: Bundle) -> str:
    """One digest for all files of a bundle."""
    told = sorted(f"{record.path} {record.sha256}" for record in bundle.manifest.files)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()
