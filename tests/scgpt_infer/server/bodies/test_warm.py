"""A front end has compiled what requests of any form need before the first one comes."""

import subprocess
import sys

CODE = """
import io
import numpy as np
import pyarrow as pa
from scgpt_infer import schema
from scgpt_infer.schema import digits
from scgpt_infer.server import kernels
from scgpt_infer.server.bodies import arrow, json
from scgpt_infer.server.bodies.warm import warm
from scgpt_infer.server.genes import GeneTable
from scgpt_runtime.vocab import Vocabulary

def compiled():
    found = {**vars(kernels), **vars(digits)}
    return {name: len(it.signatures) for name, it in found.items() if hasattr(it, "signatures")}

warm()
before = compiled()
for mode in ("exact", "alias"):
    genes = GeneTable.of(Vocabulary(("a", "b")), mode)
    genes.tokens_of(["a"])
    genes.tokens_of_prefixed(memoryview(b"....\\1\\0\\0\\0a")[4:], 1)
    body = b'{"cells": [{"genes": {"a": 1.5}}, {"genes": ["a", "b"], "values": [1, 2]}]}'
    json.read(body, "embed", 9, 9).cells(genes)
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        table = pa.table({"genes": pa.array([["a"]], pa.list_(kind)), "values": [[1.0]]})
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        arrow.read(sink.getvalue(), 9, 9).cells(genes)
schema.lists(np.frombuffer(np.ones((2, 3), np.float32).tobytes(), np.float32).reshape(2, 3))
schema.numbers(np.ones(3, np.float32))
assert compiled() == before, (before, compiled())
assert {"json_genes", "find_prefixed", "spell"} <= before.keys()
"""


def test_no_request_waits_for_a_compiler():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
