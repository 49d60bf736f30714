"""The rule on GPUs: which devices, precisions and attention routes can run a bundle's graphs, most expected first.

In: what was asked for, the graphs of a task, the GPUs that can be used. Out: `ProviderChoice` in order. It opens no
graph.
"""

import os
import re

from scgpt_runtime.errors import OptionError, ProviderError
from scgpt_runtime.gpus import Gpu, gpus
from scgpt_runtime.manifest import GraphRecord
from scgpt_runtime.providers import ProviderChoice, cuda_versions, usable_gpus
from scgpt_runtime.routes import GPU_PRECISIONS, dialects

__all__ = ["LANES", "check_device", "gpu_choices"]

LANES = 2
"""Instances a GPU: one is fed and read while the other computes."""

_DEVICE = re.compile(r"auto|all|\d{1,4}(,\d{1,4})*")


def check_device(asked: str) -> None:
    """Whether a device is written as one.

    Raises
    ------
    OptionError
        It is not.
    """
    if not _DEVICE.fullmatch(asked):
        raise OptionError(f"device is {asked!r}; expected auto, all, a number as 0, or numbers as 0,1.")
    numbers = _numbers(asked)
    if len(set(numbers)) < len(numbers):
        raise OptionError(f"device is {asked!r}, which names a GPU twice; more instances on one: --instances.")


def gpu_choices(
    provider: str, precision: str, device: str, instances: int | None, graphs: list[GraphRecord]
) -> list[ProviderChoice]:
    """What can run a task's graphs on the GPUs of this machine.

    Parameters
    ----------
    provider
        ``cuda`` or ``tensorrt``, which has no obstacle here.
    precision, device, instances
        What was asked for; ``auto`` and None leave it to the rule.
    graphs
        The sealed graphs of the task.

    Returns
    -------
    list of ProviderChoice
        Empty where no sealed graph suits.

    Raises
    ------
    OptionError
        A device that does not exist, devices of several kinds, or fewer instances than devices.
    ProviderError
        A device that the installed build cannot run on.
    """
    chosen, why_devices = _devices(device)
    lanes = instances or LANES * len(chosen)
    if lanes < len(chosen):
        raise OptionError(f"instances is {lanes}, but {len(chosen)} devices were asked for: each needs one.")
    sealed = {(graph.precision, graph.dialect) for graph in graphs}
    capability, versions = min(gpu.capability for gpu in chosen), cuda_versions()
    made = []
    for name in GPU_PRECISIONS[provider] if precision == "auto" else (precision,):
        routes = [route for route in dialects(provider, name, capability, versions) if (name, route) in sealed]
        fused = [route for route in routes if route != "portable"]
        for route in fused or routes:
            why = f"{_why_precision(name, precision)}; {_why_route(route)}; {why_devices}"
            indices = tuple(gpu.index for gpu in chosen)
            made.append(ProviderChoice(provider, name, name, route, lanes, 1, why, indices))
    return made


def _devices(asked: str) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that are meant, with the reason."""
    able = usable_gpus()
    if asked == "auto":
        more = f"; {len(able) - 1} more could run too: --device all" if len(able) > 1 else ""
        return able[:1], f"on device {_named(able[0])}{more}"
    if asked == "all":
        alike = tuple(gpu for gpu in able if _kind(gpu) == _kind(able[0]))
        others = [gpu for gpu in gpus() if gpu not in alike]
        left = f"; left out, not of this kind: {', '.join(map(_named, others))}" if others else ""
        return alike, f"on all {len(alike)} of kind {able[0].name}{left}"
    chosen = tuple(_one(number, able) for number in _numbers(asked))
    kinds = {_kind(gpu) for gpu in chosen}
    if len(kinds) > 1:
        raise OptionError(
            f"device is {asked!r}: {', '.join(map(_named, chosen))} are of {len(kinds)} kinds, and a cell would get "
            "other bits on one than on the other. Start a job for each kind."
        )
    return chosen, f"on device {', '.join(map(_named, chosen))} as asked"


def _one(number: int, able: tuple[Gpu, ...]) -> Gpu:
    found = {gpu.index: gpu for gpu in able}
    if number in found:
        return found[number]
    there = gpus()
    for gpu in there:
        if gpu.index == number:
            raise ProviderError(
                f"Device {_named(gpu)} has compute capability {gpu.compute}, for which the installed onnxruntime-gpu "
                f"has no kernels. Able to run: {', '.join(map(_named, able))}."
            )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # CUDA numbers anew what this leaves
    left = "" if visible is None else f' CUDA_VISIBLE_DEVICES="{visible}" leaves these, numbered from 0.'
    raise OptionError(f"There is no device {number}; found: {', '.join(map(_named, there))}.{left}")


def _kind(gpu: Gpu) -> tuple[str, tuple[int, int]]:
    return gpu.name, gpu.capability


def _named(gpu: Gpu) -> str:
    return f"{gpu.index} ({gpu.name})"


def _numbers(asked: str) -> list[int]:
    return [] if asked in ("auto", "all") else [int(number) for number in asked.split(",")]


def _why_precision(precision: str, asked: str) -> str:
    if asked != "auto":
        return f"precision {precision} as asked"
    told = {"fp16": "fp16, which GPUs multiply fastest", "bf16": "bf16, as fast as fp16 and less exact"}
    return told.get(precision, f"{precision}, the reference's own precision")


def _why_route(route: str) -> str:
    told = {
        "cuda-packed": "cells packed without padding",
        "cuda-lengths": "attention with key lengths",
        "cuda-flash": "flash attention over padded cells",
        "cuda-exact": "cells of equal length, attention without a mask",
        "portable": "standard operators",
    }
    return f"graph {route} ({told[route]})"
