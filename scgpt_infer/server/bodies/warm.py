"""Compiles what bodies need before the first one comes, `warm`: else a request, and all beside it, would wait."""

import numpy as np

from scgpt_infer import schema
from scgpt_infer.server.bodies import json
from scgpt_infer.server.genes import GeneTable
from scgpt_runtime.vocab import Vocabulary

__all__ = ["warm"]

_CELLS = b'{"cells": [{"genes": {"CD3D": 1}}, {"genes": ["CD3D"], "values": [1]}]}'


def warm() -> None:
    """Read and write a little of each form; where numba has kept its work this takes moments, else seconds."""
    genes = GeneTable.of(Vocabulary(("CD3D",)), "alias")
    json.read(_CELLS, "embed", max_cells=2, max_genes=1).cells(genes)
    genes.tokens_of(["CD3D"])
    genes.tokens_of_prefixed(b"\4\0\0\0CD3D", 1)
    schema.lists(np.zeros((1, 1), np.float32))
