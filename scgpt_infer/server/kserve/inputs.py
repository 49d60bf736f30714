"""The tensors of a request as cells: a `Request` and a model's gene table in, `Cells` out.

Each message names the tensor, what was found and what was expected. Whether a value can be used is the model's to say,
cell by cell.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.server.asking import Cells
from scgpt_infer.server.genes import GeneTable
from scgpt_infer.server.kserve.metadata import INPUTS, Spec
from scgpt_infer.server.kserve.requests import Request, Tensor
from scgpt_infer.server.refusals import BadRequest, TooLarge, Unprocessable

__all__ = ["cells"]

_LENGTH_BYTES = 4  # in front of each element of BYTES
_DTYPES: Mapping[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    "BYTES": msgspec.json.Decoder(list[str]),
    "FP32": msgspec.json.Decoder(list[float]),
    "INT64": msgspec.json.Decoder(list[_Whole]),
}


def cells(request: Request, genes: GeneTable, max_cells: int, max_genes: int) -> Cells:
    """The cells of a request.

    Parameters
    ----------
    request
        With the tensors ``genes``, ``values`` and ``indptr``.
    genes
        Of the model that is asked.
    max_cells, max_genes
        Most cells of a request, and most values of one cell.

    Raises
    ------
    BadRequest
        A tensor is missing, unknown, or of another type.
    Unprocessable
        Tensors contradict their shapes or each other.
    TooLarge
        There are too many cells, or a cell has too many values.
    """
    for spec in INPUTS:
        _check(spec, request.tensors)
    unknown = sorted(request.tensors.keys() - {spec.name for spec in INPUTS})
    if unknown:
        raise BadRequest(f"There is no input {unknown[0]!r}; a model takes {_all_inputs()}.")
    given = request.tensors
    (n_values,) = given["values"].shape
    if given["genes"].shape != (n_values,):
        raise Unprocessable(
            f"genes has {given['genes'].shape[0]:,} elements and values {n_values:,}; each value needs its gene."
        )
    indptr = _numbers(given["indptr"])
    _check_places(indptr, n_values, max_cells, max_genes)
    tokens = genes.settled(indptr, _tokens(given["genes"], genes))
    return Cells(indptr, tokens, _numbers(given["values"]))


def _check(spec: Spec, tensors: Mapping[str, Tensor]) -> None:
    """Make sure that a tensor is there, of its type and of one dimension."""
    found = tensors.get(spec.name)
    if found is None:
        raise BadRequest(f"The input {spec.name!r} is missing; a model takes {_all_inputs()}.")
    if found.datatype != spec.datatype:
        raise BadRequest(f"The input {spec.name!r} is of datatype {found.datatype[:40]!r}; expected {spec.datatype}.")
    if len(found.shape) != 1:
        raise BadRequest(
            f"The input {spec.name!r} has {len(found.shape)} dimensions; expected one. Cells lie one after another; "
            "indptr tells where each begins."
        )


def _check_places(indptr: NDArray[np.int64], n_values: int, max_cells: int, max_genes: int) -> None:
    """Make sure that cells lie one after another and fill the values, and keep to the limits."""
    if len(indptr) < 2:
        raise Unprocessable(f"indptr has {len(indptr)} elements; expected one more than there are cells, at least 2.")
    if indptr[0] != 0 or indptr[-1] != n_values:
        raise Unprocessable(
            f"indptr begins with {indptr[0]:,} and ends with {indptr[-1]:,}; expected 0 and the number of values, "
            f"{n_values:,}."
        )
    falls = indptr[1:] < indptr[:-1]  # differences could overflow
    if falls.any():
        place = int(falls.argmax()) + 1
        raise Unprocessable(
            f"indptr falls at element {place}, from {indptr[place - 1]:,} to {indptr[place]:,}; a cell cannot end "
            "before it begins."
        )
    lengths = np.diff(indptr)
    if len(lengths) > max_cells:
        raise TooLarge(
            f"The request has {len(lengths):,} cells; this server takes {max_cells:,}. Send fewer at a time."
        )
    if lengths.max() > max_genes:
        cell = int(lengths.argmax())
        raise TooLarge(f"Cell {cell} has {lengths[cell]:,} values; this server takes {max_genes:,} a cell.")


def _numbers(tensor: Tensor) -> NDArray[Any]:
    """The elements of a tensor of numbers."""
    (count,) = tensor.shape
    dtype = _DTYPES[tensor.datatype]
    if tensor.binary:
        if len(tensor.data) != count * dtype.itemsize:
            raise Unprocessable(
                f"The input {tensor.name!r} has {len(tensor.data):,} bytes; {count:,} elements of {tensor.datatype} "
                f"have {count * dtype.itemsize:,}."
            )
        return np.frombuffer(tensor.data, dtype).astype(dtype.newbyteorder("="))  # aligned, as the body may not be
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and the cell's own fault
        return np.array(_elements(tensor)).astype(dtype.newbyteorder("="))


def _tokens(tensor: Tensor, genes: GeneTable) -> NDArray[np.int32]:
    """The token of each gene of a tensor of names."""
    if not tensor.binary:
        return genes.tokens_of(_elements(tensor))
    if tensor.shape[0] * _LENGTH_BYTES > len(tensor.data):  # before there is room made for as many tokens
        raise Unprocessable(f"genes has {len(tensor.data):,} bytes; {tensor.shape[0]:,} names have more.")
    try:
        return genes.tokens_of_prefixed(tensor.data, tensor.shape[0])
    except ValueError as error:
        raise Unprocessable(f"genes {error}; its shape says {tensor.shape[0]:,}.") from error


def _elements(tensor: Tensor) -> list[Any]:
    """The elements of a tensor that lies in the JSON."""
    if not len(tensor.data):
        raise BadRequest(f"The input {tensor.name!r} has no data; give it as 'data', or as bytes behind the JSON.")
    try:
        elements: list[Any] = _DECODERS[tensor.datatype].decode(tensor.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        place = str(error).replace("`$", f"`{tensor.name}.data")
        raise BadRequest(f"The input {tensor.name!r} does not hold {tensor.datatype}: {place}") from error
    if (len(elements),) != tensor.shape:
        raise Unprocessable(
            f"The input {tensor.name!r} has {len(elements):,} elements; its shape says {tensor.shape[0]:,}."
        )
    return elements


def _all_inputs() -> str:
    return ", ".join(f"{spec.name} ({spec.datatype})" for spec in INPUTS)
