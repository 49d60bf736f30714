"""`ProviderChoice` -> an open graph: which session class runs which provider.

In: a bundle, a task, a choice. Out: a `GraphRunner`. It decides nothing.
"""

from pathlib import Path

from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.manifest import GraphRecord
from scgpt_runtime.openvino_session import OpenVINOSession
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.session import Session

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
    if choice.provider == "openvino":
        return OpenVINOSession.open(path, choice)
    return GpuSession.open(path, choice) if choice.provider == "cuda" else Session.open(path, choice)


def open_head(bundle: Bundle, task: str, choice: ProviderChoice) -> GraphRunner:
    """Open a head: a graph that takes a model's answers. Heads are small, so ONNX Runtime runs them on one core.

    Raises
    ------
    BundleError, ProviderError, MissingDependencyError
        The bundle has no such head, or it cannot be run here.
    """
    sealed = [graph.precision for graph in bundle.manifest.graphs if (graph.task, graph.dialect) == (task, "portable")]
    precision = choice.sealed if choice.sealed in sealed else "fp32"  # bf16 has graphs for GPUs alone
    head = ProviderChoice("cpu", precision, precision, "portable", 1, 1, "a head")
    return Session.open(bundle.file(bundle.graph(task, precision).path), head)
