"""Whether a member stands twice in an object of a JSON body, where a reader would take the last and say nothing.

In: a body that is JSON, and the parts of it that are left out: genes and values, nearly all of its bytes. It knows no
task and no cells.
"""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from scgpt_infer.server.refusals import Unprocessable

__all__ = ["check_members"]


def check_members(body: bytes | memoryview, parts: Iterable[msgspec.Raw]) -> None:
    """Make sure that each member is told once.

    Parameters
    ----------
    body
        JSON, as UTF-8.
    parts
        Pieces of it, as msgspec gives them: views of its memory. They are not looked into.

    Raises
    ------
    Unprocessable
        One stands twice.
    """
    begin, at, kept = _address(body), 0, []
    for start, size in sorted((_address(part) - begin, memoryview(part).nbytes) for part in parts):
        kept.append(body[at:start])
        at = start + size
    json.loads(b"0".join([*kept, body[at:]]).decode(), object_pairs_hook=_once, parse_int=float)


def _address(text: bytes | memoryview | msgspec.Raw) -> int:
    found: int = np.frombuffer(text, np.uint8).__array_interface__["data"][0]
    return found


def _once(members: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in members]
    if len({*names}) < len(names):
        name = next(name for place, name in enumerate(names) if name in names[:place])
        raise Unprocessable(f"The body has {name[:80]!r} twice in an object; give it once.")
