"""A graph that was written for a model repository, held against the golden cells of its bundle by ONNX Runtime.

In: a bundle, a folder with ``model.onnx``. Out: the figure of the worst cell, or an error. Triton runs the same file by
the same library, in a version of its own.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from scgpt_runtime.batching import BatchPlan, rectangles
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.choosing import Asked, candidates
from scgpt_runtime.errors import InternalError
from scgpt_runtime.proof import LIMITS, golden_tokens, worst_of
from scgpt_runtime.session import Session

__all__ = ["prove"]

_BUDGET = 4096
"""Tokens of a batch."""


def prove(bundle: Bundle, precision: str, folder: Path) -> float | None:
    """1 - cosine of the worst golden cell by the ``embed`` graph in a folder.

    Returns
    -------
    float or None
        None for bf16, which ONNX Runtime does not compute on processors.

    Raises
    ------
    InternalError
        It is further from the reference than the precision may be.
    """
    if precision == "bf16":
        return None
    golden, manifest = bundle.golden(), bundle.manifest
    choice = replace(candidates(manifest, Asked("cpu", precision))[0], instances=1)
    session = Session.open(folder / "model.onnx", choice)
    found = np.full_like(golden.vectors, np.nan)
    tokens = golden_tokens(golden, len(manifest.batches))
    for batch in rectangles(tokens, manifest.tokenizer, BatchPlan("padded", _BUDGET)):
        arrays = batch.arrays
        answers = session.feed({spec.name: arrays[spec.name].astype(spec.dtype) for spec in session.inputs})
        found[batch.cells] = answers["cell"]
    session.close()
    worst = worst_of(golden, found)
    if not worst <= LIMITS[precision]:
        raise InternalError(f"The graph that was written answers otherwise than its bundle: 1 - cosine {worst:.2g}.")
    return worst
