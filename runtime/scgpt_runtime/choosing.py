"""The rule: which providers, precisions and layouts can run a bundle here, the one to expect most of first.

In: what was asked for, what the bundle holds, what this machine has. Out: `ProviderChoice` in order. It opens no
graph; what a measurement says of its order is not its business.
"""

import logging
from dataclasses import dataclass, replace

from scgpt_runtime.errors import OptionError, ProviderError
from scgpt_runtime.gpu_choices import check_device, gpu_choices
from scgpt_runtime.machine import CoreReport, cores, processor
from scgpt_runtime.manifest import GraphRecord, Manifest
from scgpt_runtime.providers import (
    BF16_UNITS,
    ON_GPU,
    PROVIDERS,
    ProviderChoice,
    gpu_expected,
    obstacle,
    openvino_computes,
)
from scgpt_runtime.routes import GPU_PRECISIONS

__all__ = ["Asked", "as_asked", "candidates", "layouts"]

_NOT_INSTALLED = "the processor's fast arithmetic is left unused"
_LIKE_BF16 = 1e-3
"""auto takes int8 only where no golden cell is further from fp32 than bf16 may be (1 - cosine)."""

_OF_PROCESSOR = ("auto", "0")
_INT8_UNITS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asked for; ``auto`` and None leave it to the rule.

    Attributes
    ----------
    provider, precision
        ``auto`` or one by name.
    device
        ``auto``, ``all``, or numbers of GPUs with commas; on a processor ``auto`` or ``0``.
    threads
        Cores in all.
    instances
        Batches that are answered at a time; on GPUs, those of all of them.
    """

    provider: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    instances: int | None = None

    @property
    def open(self) -> bool:
        """Whether anything is left to decide beyond the layout."""
        return "auto" in (self.provider, self.precision)


def candidates(manifest: Manifest, asked: Asked = Asked(), task: str = "embed") -> tuple[ProviderChoice, ...]:
    """What can run a bundle's task on this machine, best by the rule first.

    Parameters
    ----------
    manifest
        Tells which graphs are sealed.
    asked
        What the user wants.
    task
        The task whose graphs count.

    Returns
    -------
    tuple of ProviderChoice
        At least one.

    Raises
    ------
    OptionError
        A value that does not exist.
    ProviderError
        The provider cannot run here, or the precision is not sealed and cannot be computed.
    MissingDependencyError
        ONNX Runtime is not installed.
    """
    _check(asked)
    graphs = [graph for graph in manifest.graphs if graph.task == task]
    made: list[ProviderChoice] = []
    for provider in _providers(asked):
        if provider in ON_GPU:
            found = gpu_choices(provider, asked.precision, asked.device, asked.instances, graphs)
            made += [replace(one, why=f"{_why_provider(provider, asked.provider)}; {one.why}") for one in found]
        elif not made or _fits(asked):
            made += _on_processor(provider, asked, graphs, manifest)
    if not made:
        raise _no_graph(manifest, graphs, asked, task)
    return tuple(made)


def layouts(choice: ProviderChoice) -> tuple[ProviderChoice, ...]:
    """Other ways to share the same cores among instances; none on a GPU."""
    if choice.devices:
        return ()
    total = choice.instances * choice.threads
    ways = {(1, total)} | {(total // four, four) for four in (4,) if total >= 8 and total % four == 0}
    others = sorted(ways - {(choice.instances, choice.threads)}, reverse=True)
    return tuple(replace(choice, instances=instances, threads=threads) for instances, threads in others)


def as_asked(threads: int) -> str:
    """What a choice says of the threads that were asked for."""
    return f"{threads} thread{'s' * (threads > 1)} as asked"


def _check(asked: Asked) -> None:
    if asked.provider != "auto" and asked.provider not in PROVIDERS:
        raise OptionError(f"There is no provider {asked.provider!r}; expected auto, {', '.join(PROVIDERS)}.")
    for name in ("threads", "instances"):
        number = getattr(asked, name)
        if number is not None and number < 1:
            raise OptionError(f"{name} is {number}; expected 1 or more.")
    check_device(asked.device)
    if asked.device not in _OF_PROCESSOR and asked.provider in ("cpu", "openvino"):
        raise OptionError(f"device is {asked.device!r}, but a processor is one device: leave it at auto.")


def _providers(asked: Asked) -> list[str]:
    """Providers that run here, fastest first."""
    if asked.provider != "auto":
        problem = obstacle(asked.provider)
        if problem:
            raise ProviderError(problem)
        return [asked.provider]
    problem = obstacle("cuda")
    if asked.device not in _OF_PROCESSOR:
        if problem:
            raise OptionError(f"device is {asked.device!r}, but no GPU can be used. {problem}")
        return ["cuda"]
    if problem and gpu_expected():
        _log.warning("No GPU is used: %s", problem)
    return _processors(warn=True) if problem else ["cuda", *_processors(warn=False)]


def _processors(warn: bool) -> list[str]:
    """Providers that run on this processor, fastest first."""
    problem = obstacle("openvino")
    if problem and warn:
        _log.warning("Provider cpu runs, not openvino, so %s: %s", _NOT_INSTALLED, problem)
    able = [] if problem else ["openvino"]
    problem = obstacle("cpu")
    if problem and not able:
        raise ProviderError(problem)
    return able if problem else [*able, "cpu"]


def _on_processor(provider: str, asked: Asked, graphs: list[GraphRecord], manifest: Manifest) -> list[ProviderChoice]:
    found = cores()
    instances, threads = _layout(asked, found)
    made = []
    for precision, why in _precisions(provider, asked.precision, graphs, manifest):
        sealed, dialect = _graph_for(provider, precision)
        said = f"{_why_provider(provider, asked.provider)}; {why}; {_why_cores(asked, found)}"
        made.append(ProviderChoice(provider, precision, sealed, dialect, instances, threads, said))
    return made


def _fits(asked: Asked) -> bool:
    """Whether instances that were counted for GPUs have a core each on this processor too."""
    return (asked.instances or 1) <= min(asked.threads or cores().usable, cores().affinity)


def _precisions(provider: str, asked: str, graphs: list[GraphRecord], manifest: Manifest) -> list[tuple[str, str]]:
    """Precisions that a provider can give of these graphs, with the reason, best first."""
    sealed = {(graph.precision, graph.dialect) for graph in graphs}
    computes = openvino_computes() if provider == "openvino" else ()
    able = [name for name in manifest.precisions if (name, "portable") in sealed]
    if provider == "openvino":
        able = [name for name in computes if _graph_for(provider, name) in sealed]
    if asked != "auto":
        return [(asked, f"precision {asked} as asked")] if asked in able else []
    if provider != "openvino":
        first = "fp32" if "fp32" in able else next(iter(able), None)
        return [(first, f"{first}, the reference's own precision" if first == "fp32" else first)] if first else []
    return _auto_openvino(able, manifest)


def _auto_openvino(able: list[str], manifest: Manifest) -> list[tuple[str, str]]:
    has = processor().features
    ranked = []
    if "bf16" in able:
        units = ", ".join(name for name in BF16_UNITS if name in has) or "as OpenVINO says"
        ranked.append(("bf16", f"bf16, which this processor multiplies in hardware ({units})"))
    elif "int8" in able and any(name in has for name in _INT8_UNITS) and _close(manifest):
        ranked.append(("int8", "int8, which this processor multiplies in hardware; it has no bf16"))
    if "fp32" in able:
        ranked.append(("fp32", "fp32, the reference's own precision"))
    return ranked


def _close(manifest: Manifest) -> bool:
    """Whether static int8 was found as close to fp32 as bf16 has to be."""
    found = [
        record.worst
        for record in manifest.parity
        if (record.task, record.precision, record.dialect) == ("embed", "int8", "openvino")
    ]
    return bool(found) and max(found) <= _LIKE_BF16


def _graph_for(provider: str, precision: str) -> tuple[str, str]:
    """Precision and dialect of the graph that a provider opens for a precision."""
    if provider != "openvino":
        return precision, "portable"
    return ("int8", "openvino") if precision == "int8" else ("fp32", "portable")


def _layout(asked: Asked, found: CoreReport) -> tuple[int, int]:
    """Instances and threads of each: one instance a core answers most cells a second."""
    total = min(asked.threads or found.usable, found.affinity)
    instances = asked.instances or total
    if instances > total:
        raise OptionError(f"instances is {instances}, but {total} threads are there: each instance needs a core.")
    return instances, total // instances


def _why_provider(provider: str, asked: str) -> str:
    if asked != "auto":
        return f"provider {provider} as asked"
    told = {"cuda": "provider cuda, for the GPU of this machine", "openvino": "provider openvino, the fastest here"}
    return told.get(provider, "provider cpu, which runs everywhere")


def _why_cores(asked: Asked, found: CoreReport) -> str:
    instances, threads = _layout(asked, found)
    if asked.threads is not None:
        used = instances * threads
        less = f", {used} used by {instances} instances of {threads} on {found.affinity} cores"
        return as_asked(asked.threads) + (less if used < asked.threads else "")
    if found.usable < found.host:
        return f"{found.usable} of the host's {found.host} cores, the share that this process is granted"
    return f"all {found.host} cores"


def _no_graph(manifest: Manifest, graphs: list[GraphRecord], asked: Asked, task: str) -> ProviderError:
    sealed = ", ".join(dict.fromkeys(graph.precision for graph in graphs)) or "none"
    text = f"Bundle {manifest.name} has no {asked.precision} graph for {task}"
    if any(graph.precision == asked.precision for graph in graphs):
        able = ", ".join(dict.fromkeys(graph.dialect for graph in graphs if graph.precision == asked.precision))
        text += f" that provider {asked.provider} runs here, only those of {able}"
    text += f"; sealed: {sealed}. "
    if asked.provider in ("auto", "openvino") and asked.precision in ("bf16", "fp16"):
        able = ", ".join(openvino_computes()) or "nothing here"
        text += f"OpenVINO computes {able} on this processor, from an fp32 graph. "
    if asked.provider == "openvino" and asked.precision == "int8":
        text += "OpenVINO's int8 graph is made with --calibrate CELLS.h5ad. "
    if asked.provider in ON_GPU:
        told = ", ".join(GPU_PRECISIONS[asked.provider])
        text += f"Provider {asked.provider} runs {told}; bf16 needs compute capability 8.0 or newer. "
    text += "Take one of these, or export again with fp32, fp16 or int8 in --precision (bf16: for GPUs)."
    return ProviderError(text)
