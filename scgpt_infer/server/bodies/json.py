"""A JSON body -> `Body`: ``{"cells": [{"genes": {"CD3D": 2}}, {"cell": "b", "genes": ["LYZ"], "values": [1.5]}]}``.

msgspec checks the form and leaves genes and values as they are; compiled loops read these; what is odd about a cell,
such as escapes in a name, is left to Python, which also says what is wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.server import kernels
from scgpt_infer.server.asking import Cells
from scgpt_infer.server.bodies.body import too_many_cells, too_many_values
from scgpt_infer.server.bodies.twice import check_members
from scgpt_infer.server.genes import GeneTable
from scgpt_infer.server.refusals import BadRequest, Unprocessable

__all__ = ["JsonBody", "read"]

_SHORTEST = 3  # bytes of a gene: "",
_OBJECTS = 2  # of a cell: itself and its genes
_MARKS = 4  # a value, in a cell that Python is asked to read: one, but for names with commas or brackets
_LIST, _OBJECT = ord("["), ord("{")


class _Cell(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    genes: msgspec.Raw
    values: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    cell: str | msgspec.UnsetType = msgspec.UNSET


class _Embed(msgspec.Struct, forbid_unknown_fields=True):
    cells: list[_Cell]
    model: str | msgspec.UnsetType = msgspec.UNSET


class _Annotate(msgspec.Struct, forbid_unknown_fields=True):
    cells: list[_Cell]
    model: str | msgspec.UnsetType = msgspec.UNSET
    top: int | msgspec.UnsetType = msgspec.UNSET
    unknown_below: float | msgspec.UnsetType = msgspec.UNSET
    with_vectors: bool | msgspec.UnsetType = msgspec.UNSET


_DECODERS: Final[dict[str, Any]] = {"embed": msgspec.json.Decoder(_Embed), "annotate": msgspec.json.Decoder(_Annotate)}


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A body of JSON.

    Attributes
    ----------
    said
        The options that it tells.
    parts
        Its cells, as they stand in it.
    max_genes
        Most values of a cell.
    """

    said: Mapping[str, Any]
    parts: list[_Cell]
    max_genes: int

    def cells(self, genes: GeneTable) -> Cells:
        """Its cells, as `scgpt_infer.server.bodies.body.Body` says."""
        size = sum(min(memoryview(part.genes).nbytes // _SHORTEST + 1, self.max_genes) for part in self.parts)
        tokens, values = np.empty(size, np.int32), np.empty(size, np.float32)
        indptr = np.zeros(len(self.parts) + 1, np.int64)
        for row, part in enumerate(self.parts):
            place, start = f"cells[{row}]", int(indptr[row])
            room = tokens[start : start + self.max_genes], values[start : start + self.max_genes]
            n = _read_cell(part, genes, *room)
            if n == kernels.ODD and _n_marks(part) <= _MARKS * self.max_genes:
                n = _read_odd_cell(part, place, genes, *room)
            if n < 0:
                raise too_many_values(place, self.max_genes)
            indptr[row + 1] = start + n
        n_values = int(indptr[-1])
        names = _names(self.parts)
        return Cells(indptr, genes.settled(indptr, tokens[:n_values].copy()), values[:n_values].copy(), names)


def read(body: bytes, task: str, max_cells: int, max_genes: int) -> JsonBody:
    """Check the form of a body.

    Parameters
    ----------
    body
        UTF-8.
    task
        ``embed`` or ``annotate``.
    max_cells, max_genes
        Limits of a request and of a cell.

    Raises
    ------
    BadRequest
        It is not JSON.
    Unprocessable
        It is, and has not the form that the task asks for, or tells a member twice.
    TooLarge
        It has too many cells.
    """
    # Before there is an object made of each: a few bytes of a body become a hundred.
    if body.count(b"{") > 1 + 2 * _OBJECTS * max_cells:
        raise too_many_cells(max_cells)
    try:
        if not body.isascii():
            body.decode()
        found: Any = _DECODERS[task].decode(body)
        check_members(body, _parts(found.cells))
    except msgspec.ValidationError as error:
        raise Unprocessable(f"The body is not what {task} takes: {error}. {_EXPECTED}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body cannot be read as JSON: {error}. {_EXPECTED}") from None
    if not found.cells:
        raise Unprocessable(f"cells is empty; send at least one. {_EXPECTED}")
    if len(found.cells) > max_cells:
        raise too_many_cells(max_cells)
    told = {name: getattr(found, name) for name in found.__struct_fields__ if name != "cells"}
    return JsonBody({name: value for name, value in told.items() if value is not msgspec.UNSET}, found.cells, max_genes)


_EXPECTED = 'Expected such as {"cells": [{"cell": "AAAC-1", "genes": {"CD3D": 2, "LYZ": 1}}]}.'


def _parts(cells: list[_Cell]) -> list[msgspec.Raw]:
    """What msgspec left as it is."""
    return [part for cell in cells for part in (cell.genes, cell.values) if part is not msgspec.UNSET]


def _names(parts: list[_Cell]) -> tuple[str, ...]:
    """The cells' names; those without one are numbered, unless none has one."""
    if all(part.cell is msgspec.UNSET for part in parts):
        return ()
    return tuple(str(row) if part.cell is msgspec.UNSET else part.cell for row, part in enumerate(parts))


def _read_cell(part: _Cell, genes: GeneTable, tokens: NDArray[np.int32], values: NDArray[np.float32]) -> int:
    """Read a cell to the beginning of two arrays; returns its number of values, `kernels.ODD` or `kernels.MANY`."""
    text, is_list = kernels.padded(part.genes), part.values is not msgspec.UNSET
    if text[0] != (_LIST if is_list else _OBJECT):
        return kernels.ODD
    n = kernels.json_genes(text, genes.table, tokens, values)
    if is_list and n >= 0:
        numbers = kernels.padded(part.values)
        return n if numbers[0] == _LIST and kernels.json_numbers(numbers, values) == n else kernels.ODD
    return n


def _n_marks(part: _Cell) -> int:
    """Commas and brackets of a cell: no fewer than the objects that Python would make of it."""
    return sum(text.count(mark) for text in map(bytes, _parts([part])) for mark in (b",", b"[", b"{"))


def _read_odd_cell(
    part: _Cell, place: str, genes: GeneTable, tokens: NDArray[np.int32], values: NDArray[np.float32]
) -> int:
    """As `_read_cell`, for anything that is JSON."""
    names, numbers = _pairs(part, place)
    for name, number in zip(names, numbers, strict=True):
        if not isinstance(name, str):
            raise Unprocessable(f"{place}.genes has {_told(name)}; expected names of genes.")
        if not isinstance(number, float):
            raise Unprocessable(f"{place} has {_told(number)} for the gene {name!r}; expected a number.")
    if len(names) > len(tokens):
        return kernels.MANY
    tokens[: len(names)] = genes.tokens_of(names)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and the cell's own fault
        values[: len(names)] = np.array(numbers, np.float64)
    return len(names)


class _Object(list[tuple[str, Any]]):
    """The members of a JSON object: a name that stands there twice is two columns, as everywhere."""


def _pairs(part: _Cell, place: str) -> tuple[list[Any], list[Any]]:
    """Names and values of a cell."""
    genes = _loaded(part.genes)
    if isinstance(genes, _Object):
        if part.values is not msgspec.UNSET:
            raise Unprocessable(f"{place} has genes with their values, and values again; leave values out.")
        return [name for name, _ in genes], [number for _, number in genes]
    if not isinstance(genes, list):
        raise Unprocessable(f"{place}.genes is {_told(genes)}; expected names with values, or a list of names.")
    if part.values is msgspec.UNSET:
        raise Unprocessable(f"{place} has a list of genes and no values; give a list of as many values.")
    values = _loaded(part.values)
    if not isinstance(values, list) or isinstance(values, _Object):
        raise Unprocessable(f"{place}.values is {_told(values)}; expected a list of numbers.")
    if len(genes) != len(values):
        raise Unprocessable(f"{place} has {len(genes):,} genes and {len(values):,} values; expected as many of both.")
    return genes, values


def _loaded(text: msgspec.Raw) -> Any:
    try:
        # A whole number of any length is a float: Python would refuse one of 5,000 digits.
        return json.loads(bytes(text), object_pairs_hook=_Object, parse_int=float)
    except RecursionError:
        raise BadRequest(f"The body cannot be read as JSON: it is nested too deeply. {_EXPECTED}") from None


def _told(value: Any) -> str:
    """What was found, for a message."""
    kinds = {_Object: "an object", list: "a list", bool: str(value).lower(), type(None): "null"}
    return kinds.get(type(value)) or json.dumps(value)[:80]
