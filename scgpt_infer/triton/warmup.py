"""Golden cells as the samples that a model is warmed up with before it says that it is ready.

In: a bundle's golden cells. Out: files of raw numbers, and messages that name them. Real cells, not zeros: a length of
zero would be no cell. Layout: https://github.com/triton-inference-server/core (``GenerateWarmupData``).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.triton.config import Message, tensor
from scgpt_infer.triton.options import TritonOptions
from scgpt_runtime.golden import Golden
from scgpt_runtime.records import TensorSpec

__all__ = ["warmup"]

FOLDER = "warmup"


def warmup(golden: Golden, inputs: Sequence[TensorSpec], folder: Path, options: TritonOptions) -> list[Message]:
    """Write samples for a graph that takes tokens: the longest golden cell, alone and as a full batch.

    Parameters
    ----------
    golden
        The cells.
    inputs
        What the graph takes.
    folder
        Of the model in the repository.
    options
        Tell how large a batch may be. On processors alone there is no full batch: shapes are not compiled there, and
        it would take long.

    Returns
    -------
    Samples; none where the graph takes what golden cells are not.
    """
    cell = int(np.argmax(golden.lengths))
    part = slice(golden.offsets[cell], golden.offsets[cell + 1])
    arrays: dict[str, NDArray[np.generic]] = {
        "ids": golden.ids[part],
        "values": golden.values[part],
        "lengths": golden.lengths[cell : cell + 1],
    }
    if {spec.name for spec in inputs} != {*arrays}:
        return []
    (folder / FOLDER).mkdir()
    told = []
    for spec in inputs:
        array = np.ascontiguousarray(arrays[spec.name].astype(np.dtype(spec.dtype).newbyteorder("<")))
        (folder / FOLDER / spec.name).write_bytes(array.tobytes())
        kind = tensor(spec, batched=True)["data_type"]
        told.append(
            {"key": spec.name, "value": {"data_type": kind, "dims": list(array.shape), "input_data_file": spec.name}}
        )
    sizes = {"one cell": 1} | ({} if options.kind == "cpu" else {"a full batch": options.max_batch})
    return [{"name": name, "batch_size": size, "inputs": told} for name, size in sizes.items()]
