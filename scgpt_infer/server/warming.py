"""Compiles what a server compiles on first use, by using it: ``python -m scgpt_infer.server.warming``.

A real server with the model that ships is asked in each form, and a table is read as a job would. What numba compiles
is kept where it always is, ``NUMBA_CACHE_DIR`` in an image: its servers then begin without. It knows no kernel.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

__all__ = ["main", "ready", "requests"]

_PATIENCE_S, _AGAIN_S = 600.0, 0.1
_MODEL = ("--model", "demo", "--provider", "cpu")
_GENES = ("CD3D", "CD3E", "LYZ", "NKG7", "MS4A1", "ENSG00000198851.10", "no such gene")
_VALUES = (2.0, 1.5, 3.0, 1.0, 4.0, 2.0, 1.0)

Form = tuple[str, bytes, dict[str, str]]


def main() -> int:
    """Warm, and say how long it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scgpt-infer-") as folder, _server() as url:
        for path, body, headers in requests():
            asked = urllib.request.Request(url + path, body, headers)
            with urllib.request.urlopen(asked, timeout=_PATIENCE_S) as answer:
                answer.read()
        _read_table(Path(folder))
    print(f"Compiled and kept in {time.monotonic() - began:.0f} s.")
    return 0


def requests() -> list[Form]:
    """Path, body and headers of a request in each form, with answers in each."""
    listed = {"cells": [{"cell": "a", "genes": [*_GENES], "values": [*_VALUES]}]}
    paired = {"cells": [{"genes": dict(zip(_GENES, _VALUES, strict=True))}]}
    told = {"Content-Type": "application/json"}
    numpy = {**told, "Accept": "application/x-npy"}
    stream = {"Content-Type": "application/vnd.apache.arrow.stream", "Accept": "application/vnd.apache.arrow.stream"}
    return [
        ("/v1/annotate", json.dumps(listed).encode(), told),
        ("/v1/embed", json.dumps(paired).encode(), numpy),
        ("/v1/embed", _arrow(dictionary=False), stream),
        ("/v1/embed", _arrow(dictionary=True), stream),
        _kserve(),
    ]


def _arrow(*, dictionary: bool) -> bytes:
    import pyarrow as pa

    names = pa.array([*_GENES])
    genes = pa.ListArray.from_arrays([0, len(_GENES)], names.dictionary_encode() if dictionary else names)
    values = pa.array([[*_VALUES]], pa.list_(pa.float32()))
    table = pa.table({"genes": genes, "values": values})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _kserve() -> Form:
    """The Open Inference Protocol with binary tensors: a header in JSON, then the tensors."""
    encoded = [name.encode() for name in _GENES]
    genes = b"".join(len(name).to_bytes(4, "little") + name for name in encoded)
    tensors = {
        "genes": ("BYTES", [len(_GENES)], genes),
        "values": ("FP32", [len(_GENES)], np.array(_VALUES, "<f4").tobytes()),
        "indptr": ("INT64", [2], np.array([0, len(_GENES)], "<i8").tobytes()),
    }
    inputs = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, (kind, shape, data) in tensors.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(data for _, _, data in tensors.values())
    return "/v2/models/demo/infer", body, {"Inference-Header-Content-Length": str(len(head))}


@contextmanager
def _server() -> Iterator[str]:
    """A server with the demo, ready, at a port of its own; ended in order behind the block."""
    words = ["serve", *_MODEL, "--host", "127.0.0.1", "--port", "0", "--genes", "alias", "--log-format", "json"]
    # What an image sets for its servers is not for this one.
    environment = {name: told for name, told in os.environ.items() if not name.startswith("SCGPT_INFER_SERVE_")}
    server = subprocess.Popen([sys.executable, "-m", "scgpt_infer", *words], stderr=subprocess.PIPE, env=environment)
    try:
        assert server.stderr is not None
        yield ready(server.stderr)
    finally:
        server.terminate()
        server.communicate()


def ready(log: IO[bytes]) -> str:
    """Where a server listens, once it answers.

    Parameters
    ----------
    log
        Its standard error, in JSON.
    """
    url = ""
    for line in log:
        told = json.loads(line) if line.startswith(b"{") else {}
        url = str(told.get("url", url))
        if told.get("message") == "All models are open.":
            break
    else:
        raise SystemExit("The server ended before it was ready. Start it by hand: scgpt-infer serve --model demo")
    until = time.monotonic() + _PATIENCE_S
    while True:  # its front ends may need a moment more
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=_PATIENCE_S):
                return url
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(_AGAIN_S)


def _read_table(folder: Path) -> None:
    """Read a table of text, as a job does that was given one."""
    table, output = folder / "cells.csv", folder / "cells.npy"
    table.write_text(f"cell,{','.join(_GENES)}\na,{','.join(map(str, _VALUES))}\n", encoding="utf-8")
    words = ["embed", str(table), "-o", str(output), *_MODEL, "--min-match", "0", "--quiet"]
    subprocess.run([sys.executable, "-m", "scgpt_infer", *words], check=True)


if __name__ == "__main__":
    raise SystemExit(main())
