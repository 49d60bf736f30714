"""JSON values to frozen dataclasses, checked all the way down.

In: what `json.loads` gave. Out: an instance, or an error that names the place. It knows nothing of manifests.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from scgpt_runtime.errors import BundleError

__all__ = ["decode"]


def decode(kind: Any, found: Any, where: str) -> Any:
    """``found`` as ``kind``: a dataclass, tuple, dict, literal, union or plain type, checked all the way down."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return found
    if is_dataclass(kind) and isinstance(found, dict):
        return _decode_record(kind, found, where)
    if origin is tuple and isinstance(found, list):
        return tuple(decode(inner[0], item, f"{where}[{i}]") for i, item in enumerate(found))
    if origin is dict and isinstance(found, dict):
        return {key: decode(inner[1], item, f"{where}.{key}") for key, item in found.items()}
    if origin is Literal and found in inner:
        return found
    if origin is UnionType and type(found) in inner:
        return found
    if origin is UnionType and isinstance(found, dict) and len(records := list(filter(is_dataclass, inner))) == 1:
        return decode(records[0], found, where)
    if kind is float and type(found) in (int, float):
        return float(found)
    if type(found) is kind:
        return found
    raise BundleError(f"{where} is {str(found)[:80]!r}, which cannot be read as {_kind_name(kind)}.")


def _decode_record(kind: Any, found: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    missing = [
        f.name for f in fields(kind) if f.name not in found and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise BundleError(f"{where} lacks {', '.join(missing)}. Take a fresh copy, or make it again.")
    known = {name: decode(hint, found[name], f"{where}.{name}") for name, hint in hints.items() if name in found}
    return kind(**known)


def _kind_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
