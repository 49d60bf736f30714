"""What machine and libraries the parts of a job are made on: `made_here`, and where two differ, `told_apart`.

They decide no row by name, but the last bits of one may depend on them; so they are told, and never a reason to refuse.
"""

from collections.abc import Mapping
from importlib import metadata

from scgpt_runtime.machine import processor

__all__ = ["made_here", "told_apart"]

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino")


def made_here() -> dict[str, str]:
    """The processor's name, and the versions of what can run a model here."""
    found = {"processor": processor().name}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def told_apart(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What two have both, and not alike: a package that only one has may have had no part in the work."""
    both = [name for name in one if name in other]
    return [f"{name} {one[name]} | {other[name]}" for name in both if one[name] != other[name]]
