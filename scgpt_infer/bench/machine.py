"""What a figure has to be read with: processor, cores, memory, system and versions.

In: nothing. Out: `MachineFacts`. No name of host or user.
"""

import platform
import sys
from dataclasses import dataclass
from importlib import metadata

from scgpt_infer import doctor
from scgpt_runtime.gpus import gpus
from scgpt_runtime.machine import cores, processor

__all__ = ["MachineFacts", "describe"]

_PACKAGES = ("scgpt-infer", "numpy", "numba", "onnxruntime", "onnxruntime-gpu", "openvino")


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The machine of a benchmark.

    Attributes
    ----------
    processor
        Its name.
    features
        Instruction sets that matter for matrix products.
    cores_usable, cores_host
        Cores that the process may keep busy, of those that the machine has.
    memory
        Bytes: the machine's, or what its control group grants.
    system, python, versions
        Software.
    gpus
        Name of each GPU that the process may use.
    """

    processor: str
    features: tuple[str, ...]
    cores_usable: int
    cores_host: int
    memory: int | None
    system: str
    python: str
    versions: dict[str, str]
    gpus: tuple[str, ...] = ()


def describe() -> MachineFacts:
    """What this machine is."""
    found, granted, memory = processor(), cores(), doctor.memory()
    sizes = [size for size in (memory.total, memory.limit) if size is not None]
    return MachineFacts(
        processor=found.name,
        features=found.features,
        cores_usable=granted.usable,
        cores_host=granted.host,
        memory=min(sizes, default=None),
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        python=sys.version.split()[0],
        versions={name: version for name in _PACKAGES if (version := _version(name))},
        gpus=tuple(gpu.name for gpu in gpus()),
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
