"""Tensors as cells: the same cells in JSON and in bytes, and the message for each that cannot be cells."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from scgpt_infer.server.asking import Cells
from scgpt_infer.server.genes import GeneTable
from scgpt_infer.server.kserve import inputs
from scgpt_infer.server.kserve.requests import read
from scgpt_infer.server.refusals import BadRequest, Refusal, TooLarge, Unprocessable
from scgpt_runtime.vocab import match
from tests.scgpt_infer.server.fake_desk import demo_here

VOCABULARY = demo_here().vocabulary
TABLE = GeneTable.of(VOCABULARY, "exact")
KNOWN = [name for name in VOCABULARY.tokens if not name.startswith("<")][:3]
GENES = [KNOWN[0], "no gene", KNOWN[1], KNOWN[2], "<cls>", ""]
VALUES = [1.0, 2.5, 3.0, 0.0, 7.0, 1e-3]
INDPTR = [0, 2, 2, 6]


def _json(
    genes: Any = GENES, values: Any = VALUES, indptr: Any = INDPTR, values_shape: Sequence[int] | None = None
) -> bytes:
    shapes = {} if values_shape is None else {"values": values_shape}
    given = {"genes": ("BYTES", genes), "values": ("FP32", values), "indptr": ("INT64", indptr)}
    return json.dumps(
        {
            "inputs": [
                {"name": name, "datatype": datatype, "shape": shapes.get(name, [len(data)]), "data": data}
                for name, (datatype, data) in given.items()
            ]
        }
    ).encode()


def _prefixed(genes: Sequence[str]) -> bytes:
    return b"".join(struct.pack("<I", len(gene.encode())) + gene.encode() for gene in genes)


def _binary(
    genes: bytes = _prefixed(GENES), values: bytes = np.array(VALUES, "<f4").tobytes(), **shapes: int
) -> tuple[bytes, str]:
    data = {"genes": genes, "values": values, "indptr": np.array(INDPTR, "<i8").tobytes()}
    counts = {"genes": len(GENES), "values": len(VALUES), "indptr": len(INDPTR)}
    types = {"genes": "BYTES", "values": "FP32", "indptr": "INT64"}
    told = [
        {
            "name": name,
            "datatype": types[name],
            "shape": [shapes.get(name, counts[name])],
            "parameters": {"binary_data_size": len(piece)},
        }
        for name, piece in data.items()
    ]
    head = json.dumps({"inputs": told}).encode()
    return head + b"".join(data.values()), str(len(head))


def _cells(body: bytes, length: str | None = None, max_cells: int = 10, max_genes: int = 10) -> Cells:
    return inputs.cells(read(body, length), TABLE, max_cells, max_genes)


@pytest.mark.parametrize("sent", [(_json(), None), _binary()], ids=["JSON", "bytes"])
def test_cells_of_tensors(sent: tuple[bytes, str | None]) -> None:
    cells = _cells(*sent)
    np.testing.assert_array_equal(cells.indptr, INDPTR)
    np.testing.assert_array_equal(cells.tokens, match(GENES, VOCABULARY).columns)
    np.testing.assert_array_equal(cells.values, np.array(VALUES, np.float32))
    assert (cells.indptr.dtype, cells.tokens.dtype, cells.values.dtype) == (np.int64, np.int32, np.float32)


def test_values_that_float32_cannot_hold_are_infinite() -> None:
    """They are the fault of their cell, not of the request."""
    assert np.isinf(_cells(_json(values=[1e300, 1, 1, 1, 1, 1])).values[0])


@pytest.mark.parametrize(
    ("body", "refusal", "told"),
    [
        (b'{"inputs": []}', BadRequest, r"'genes' is missing; a model takes genes \(BYTES\), values"),
        (_json().replace(b'"genes"', b'"gene"'), BadRequest, "'genes' is missing"),
        (_json().replace(b"FP32", b"FP64"), BadRequest, "'values' is of datatype 'FP64'; expected FP32"),
        (_json(values=[[1.0]] * 6, indptr=INDPTR), BadRequest, r"`values\.data\[0\]`"),
        (_json(values=[1, 2, 3, 4, 5, "6"]), BadRequest, r"Expected `float`, got `str` - at `values\.data\[5\]`"),
        (_json(values=[1, 2, 3, 4, 5, None]), BadRequest, r"got `null` - at `values\.data\[5\]`"),
        (_json(genes=[*GENES[:5], 6]), BadRequest, r"`genes\.data\[5\]`"),
        (_json(genes=[*GENES[:5], "lost"]).replace(b"lost", b"l\xffst"), BadRequest, "'genes' does not hold BYTES"),
        (_json(indptr=[0, 2, 2.5, 6]), BadRequest, r"`indptr\.data\[2\]`"),
        (_json(indptr=[0, 2, 2**70, 6]), BadRequest, r"`indptr\.data\[2\]`"),
        (_json(values=[2, 3], genes=GENES, indptr=INDPTR), Unprocessable, "genes has 6 elements and values 2"),
        (_json(values_shape=[6, 1]), BadRequest, "'values' has 2 dimensions; expected one"),
        (_json(values=VALUES[:5], values_shape=[6]), Unprocessable, "has 5 elements; its shape says 6"),
        (_json(indptr=[]), Unprocessable, "indptr has 0 elements"),
        (_json(indptr=[0]), Unprocessable, "indptr has 1 elements"),
        (_json(indptr=[1, 6]), Unprocessable, "begins with 1 and ends with 6; expected 0 and the number of values, 6"),
        (_json(indptr=[0, 5]), Unprocessable, "begins with 0 and ends with 5"),
        (_json(indptr=[0, 4, 2, 6]), Unprocessable, "falls at element 2, from 4 to 2"),
        (_json(indptr=[0, 2**63 - 1, -(2**63), 6]), Unprocessable, "falls at element 2"),
        (_json(indptr=[0, 0, 0, 0, 0, 6]), TooLarge, "has 5 cells; this server takes 4"),
        (_json(indptr=[0, 0, 6]), TooLarge, "Cell 1 has 6 values; this server takes 5"),
    ],
)
def test_tensors_that_are_no_cells(body: bytes, refusal: type[Refusal], told: str) -> None:
    with pytest.raises(refusal, match=told):
        _cells(body, max_cells=4, max_genes=5)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (_binary(values=b"abc"), "'values' has 3 bytes; 6 elements of FP32 have 24"),
        (_binary(genes=_prefixed(GENES)[:-1]), "genes"),
        (_binary(genes=_prefixed(GENES[:5])), "genes"),
        (_binary(genes=_prefixed([*GENES, "more"])), "genes"),
        (_binary(genes=b"\xff\xff\xff\xff" * 6), "genes"),
        (_binary(genes=b""), "genes"),
    ],
)
def test_bytes_that_are_not_their_tensor(sent: tuple[bytes, str], told: str) -> None:
    with pytest.raises(Unprocessable, match=told):
        _cells(*sent)


def test_an_unknown_input_is_told() -> None:
    body = json.loads(_json())
    body["inputs"].append({"name": "counts", "datatype": "FP32", "shape": [0], "data": []})
    with pytest.raises(BadRequest, match="no input 'counts'; a model takes genes"):
        _cells(json.dumps(body).encode())


def test_a_tensor_without_data_is_told() -> None:
    body = json.loads(_json())
    del body["inputs"][0]["data"]
    with pytest.raises(BadRequest, match="'genes' has no data"):
        _cells(json.dumps(body).encode())
