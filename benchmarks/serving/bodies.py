"""Cells of a file as the bodies of requests, in each form that a server reads.

In: an ``.h5ad`` of counts with gene names as its index. Out: `Body`, ready to be sent. It opens no socket.
"""

import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pyarrow as pa
import scipy.sparse as sp

__all__ = ["FORMS", "Body", "bodies", "rows_of"]

ARROW = "application/vnd.apache.arrow.stream"
SEED = 7


@dataclass(frozen=True, slots=True)
class Body:
    """A request.

    Attributes
    ----------
    path
        Where it goes.
    headers
        Of its own.
    data
        Its body.
    cells
        How many are in it.
    """

    path: str
    headers: dict[str, str]
    data: bytes
    cells: int


def rows_of(path: Path, n_cells: int) -> tuple[sp.csr_matrix, list[str]]:
    """(n_cells, n_genes) cells drawn from a file with a seed, and the names of the genes."""
    data = ad.read_h5ad(path)
    chosen = np.sort(np.random.default_rng(SEED).choice(data.n_obs, min(n_cells, data.n_obs), replace=False))
    return sp.csr_matrix(data[chosen].X, dtype=np.float32), list(data.var_names)


def bodies(rows: sp.csr_matrix, genes: list[str], each: int, form: str, model: str) -> list[Body]:
    """All cells as requests.

    Parameters
    ----------
    rows, genes
        As `rows_of` gives them.
    each
        Cells of a request.
    form
        One of `FORMS`.
    model
        Name that the server knows the model by.
    """
    return [FORMS[form](rows[start : start + each], genes, model) for start in range(0, rows.shape[0], each)]


def _binary(rows: sp.csr_matrix, genes: list[str], model: str) -> Body:
    """Tensors of the Open Inference Protocol, as bytes both ways."""
    prefixed = [struct.pack("<I", len(name.encode())) + name.encode() for name in genes]
    names = b"".join([prefixed[gene] for gene in rows.indices.tolist()])
    indptr = rows.indptr.astype("<i8").tobytes()
    tensors = [
        ("genes", "BYTES", rows.nnz, names),
        ("values", "FP32", rows.nnz, rows.data.astype("<f4").tobytes()),
        ("indptr", "INT64", rows.shape[0] + 1, indptr),
    ]
    inputs = [
        {"name": name, "datatype": kind, "shape": [size], "parameters": {"binary_data_size": len(data)}}
        for name, kind, size, data in tensors
    ]
    outputs = [{"name": "embedding", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    data = head + b"".join(data for *_, data in tensors)
    return Body(f"/v2/models/{model}/infer", headers, data, rows.shape[0])


def _json(rows: sp.csr_matrix, genes: list[str], model: str) -> Body:
    """Our own JSON, both ways."""
    cells = [
        {"genes": {genes[gene]: float(value) for gene, value in zip(row.indices, row.data, strict=True)}}
        for row in map(rows.getrow, range(rows.shape[0]))
    ]
    data = json.dumps({"model": model, "cells": cells}, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return Body("/v1/embed", headers, data, rows.shape[0])


def _json_npy(rows: sp.csr_matrix, genes: list[str], model: str) -> Body:
    """Our own JSON there, numbers as bytes back."""
    body = _json(rows, genes, model)
    return Body(body.path, {**body.headers, "Accept": "application/x-npy"}, body.data, body.cells)


def _arrow(rows: sp.csr_matrix, genes: list[str], model: str) -> Body:
    """An Arrow stream both ways, the names of genes as a dictionary."""
    offsets = pa.array(rows.indptr.astype(np.int32))
    # Only the genes that are there: a dictionary of all would outweigh a single cell.
    used, places = np.unique(rows.indices, return_inverse=True)
    names = pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), pa.array([genes[gene] for gene in used]))
    columns = {
        "genes": pa.ListArray.from_arrays(offsets, names),
        "values": pa.ListArray.from_arrays(offsets, pa.array(rows.data)),
    }
    batch, sink = pa.RecordBatch.from_pydict(columns), io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return Body(f"/v1/embed?model={model}", {"Content-Type": ARROW, "Accept": ARROW}, sink.getvalue(), rows.shape[0])


FORMS: Mapping[str, Callable[[sp.csr_matrix, list[str], str], Body]] = {
    "binary": _binary,
    "arrow": _arrow,
    "json": _json,
    "json-npy": _json_npy,
}
"""What goes there and comes back."""
