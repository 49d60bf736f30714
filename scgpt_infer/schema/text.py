"""The text of a document, piece by piece, so that no document need be held whole.

A cell is one line of ASCII: no name can break a line or a decoder. The same values give the same bytes.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NAME", "about", "cell", "closing", "document", "lists", "numbers", "opening", "quoted"]

Facts = Mapping[str, str | int | float]

NAME = "scgpt-infer/1"
"""Name and version of the schema, as every document says it."""


def opening(kind: str) -> str:
    """What stands before the first cell; cells are separated by commas."""
    return f'{{"schema": {quoted(NAME)}, "kind": {quoted(kind)}, "cells": [\n'


def closing(run: Facts) -> str:
    """What stands after the last cell."""
    return f'\n], "run": {_facts(run)}}}\n'


def document(kind: str, members: Mapping[str, str], run: Facts) -> str:
    """A whole document that is not about cells; ``members`` are names to JSON text."""
    told = "".join(f"{quoted(name)}: {text}, " for name, text in members.items())
    return f'{{"schema": {quoted(NAME)}, "kind": {quoted(kind)}, {told}"run": {_facts(run)}}}\n'


def about(kind: str, run: Facts) -> str:
    """What lies beside a file of lines."""
    return f'{{"schema": {quoted(NAME)}, "kind": {quoted(kind)}, "run": {_facts(run)}}}\n'


def cell(name: str, row: int, reason: str, members: Mapping[str, str]) -> str:
    """One cell.

    Parameters
    ----------
    name, row
        Which cell it is.
    reason
        Why it has no result; empty where it has one.
    members
        What is told of it: names to JSON text.
    """
    head = f'{{"cell": {quoted(name)}, "row": {row}, "error": {quoted(reason) if reason else "null"}'
    return head + "".join(f', "{member}": {text}' for member, text in members.items()) + "}"


def quoted(text: str) -> str:
    """Text as JSON."""
    return json.dumps(text)


def numbers(values: NDArray[Any]) -> Any:
    """Numbers as JSON, in lists of the same shape: the fewest digits that bring them back, null for NaN.

    Parameters
    ----------
    values
        float16, or any numbers, of which float32 is told.
    """
    if values.dtype == np.float16:
        return np.where(np.isfinite(values), values.astype("U16"), "null").tolist()
    if values.size == 0:
        return values.tolist()
    told = _rows(values.reshape(len(values), -1))
    return told if values.ndim == 1 else [row.split(", ") for row in told]


def lists(values: NDArray[Any]) -> list[str]:
    """A JSON list of the `numbers` of each row of (n_rows, n_columns) values."""
    if values.dtype == np.float16 or values.size == 0:
        return [f"[{', '.join(row)}]" for row in numbers(values)]
    return [f"[{row}]" for row in _rows(values)]


def _rows(values: NDArray[Any]) -> list[str]:
    from scgpt_infer.schema.digits import rows  # late: it compiles

    return rows(values.astype(np.float32, copy=False))


def _facts(run: Facts) -> str:
    return json.dumps(dict(run), allow_nan=False)
