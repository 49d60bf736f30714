"""The bytes of a request's body -> `Body`, within the limits of a server: what a front end does before it asks a model.

It knows no HTTP.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from scgpt_infer.server.bodies.body import too_many_cells, too_many_values
from scgpt_infer.server.bodies.twice import check_members
from scgpt_infer.server.calls.bodies import BODIES, Body, CellAsked, ModalCellAsked, refused
from scgpt_infer.server.refusals import BadRequest, TooLarge

__all__ = ["MOST_MEMBERS", "read"]

MOST_MEMBERS: Final = 2_000_000
"""Commas of a body. Each is of a name or a number, which a few bytes tell and a hundred of memory hold."""

_DECODERS: Final[dict[str, Any]] = {task: msgspec.json.Decoder(body) for task, body in BODIES.items()}


def read(task: str, text: bytes, max_cells: int, max_genes: int) -> Body:
    """Read a body.

    Parameters
    ----------
    task
        One of `BODIES`.
    text
        JSON, as UTF-8.
    max_cells, max_genes
        Limits of a request and of a cell.

    Raises
    ------
    BadRequest
        It is not JSON.
    Unprocessable
        It is, and not what the task takes, or tells a member or a gene of an object twice.
    TooLarge
        It is above a limit.
    """
    if text.count(b",") > MOST_MEMBERS:
        raise TooLarge(
            f"The body has more than {MOST_MEMBERS:,} names and values, the most that {task} takes. Send fewer cells, "
            "or take the command line for a whole file."
        )
    try:
        found: Body = _DECODERS[task].decode(text)
    except msgspec.ValidationError as error:
        raise refused(task, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body cannot be read as JSON: {error}.") from None
    cells: Sequence[CellAsked | ModalCellAsked] = getattr(found, "cells", None) or ()
    if len(cells) > max_cells:
        raise too_many_cells(max_cells)
    for row, cell in enumerate(cells):
        if _values(cell) > max_genes:
            raise too_many_values(f"cells[{row}]", max_genes)
    check_members(text, ())
    return found


def _values(cell: CellAsked | ModalCellAsked) -> int:
    if isinstance(cell, CellAsked):
        return len(cell.genes)
    return max(len(cell.features or ()), sum(map(len, (cell.modalities or {}).values())))
