"""Graph module in, ONNX model (in memory, float32) out.

It knows the names, dtypes and free axes of every task's inputs and outputs. It writes no file.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import nn

from scgpt_runtime.errors import InternalError
from scgpt_runtime.manifest import TensorSpec

__all__ = ["OPSET", "Signature", "signature", "trace"]

OPSET = 20
"""Newest opset that TensorRT, Triton and runtimes of the last years all read."""

_NO_LIMIT = 1 << 40
_EXAMPLE = {"cells": 3, "tokens": 7, "cells_plus_1": 4, "longest": 5, "genes": 6}


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a task's graph in a dialect, the same in every precision."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def signature(
    task: str,
    dialect: str = "portable",
    *,
    dim: int,
    n_heads: int,
    n_genes: int,
    binned: bool,
    n_classes: int,
    batch: bool,
    explicit_zero: bool,
    n_batches: int = 0,
    modalities: bool = False,
) -> Signature:
    """Names, dtypes and shapes of a task's graph.

    Parameters
    ----------
    task
        ``embed``, ``tokens``, ``attention``, ``perturb``, ``genes``, ``classify``, ``discriminate``, ``expression`` or
        ``mvc``.
    dialect
        Decides how ``embed`` and ``tokens`` are told where a cell ends.
    dim, n_heads
        Width of the model, and its attention heads.
    n_genes
        Size of the vocabulary: uint16 ids up to 65,535, uint32 beyond.
    binned
        Values are uint8 codes rather than float32.
    n_classes
        Classes of the classifier.
    batch
        The graph needs the batch label of each cell.
    explicit_zero
        Decoders also say how likely a value is not zero.
    n_batches
        Batch labels that ``discriminate`` tells.
    modalities
        Decoders need the modality of each token.
    """
    tokens = ("cells", "tokens")
    laid = ("tokens",) if dialect == "cuda-packed" else tokens
    ids = TensorSpec("ids", "uint16" if n_genes <= 65_535 else "uint32", laid)
    values = TensorSpec("values", "uint8" if binned else "float32", laid)
    flags = TensorSpec("flags", "uint8", tokens)
    cell = TensorSpec("cell", "float32", ("cells", dim))
    hidden = TensorSpec("hidden", "float32", (*tokens, dim))
    scores = TensorSpec("scores", "float32", ("cells", n_heads, "tokens", "tokens"))
    logits = TensorSpec("logits", "float32", ("cells", n_classes))
    value = TensorSpec("value", "float32", tokens)
    genes = TensorSpec("ids", ids.dtype, ("genes",))
    gene = TensorSpec("gene", "float32", ("genes", dim))
    decoded = (value, TensorSpec("nonzero", "float32", tokens)) if explicit_zero else (value,)
    label = (TensorSpec("batch", "int32", ("cells",)),) if batch else ()
    cells = (ids, values, *_ends(dialect), *label)
    mods = (TensorSpec("mods", "uint8", tokens),) if modalities else ()
    of_batches = TensorSpec("logits", "float32", ("cells", n_batches))
    return {
        "embed": Signature(cells, (cell,)),
        "tokens": Signature(cells, (hidden,)),
        "attention": Signature(cells, (scores,)),
        "perturb": Signature((ids, values, flags), (*decoded, cell)),
        "genes": Signature((genes,), (gene,)),
        "classify": Signature((cell,), (logits,)),
        "discriminate": Signature((cell,), (of_batches,)),
        "expression": Signature((hidden, *mods, *label), decoded),
        "mvc": Signature((cell, ids, *mods, *label), decoded),
    }[task]


def _ends(dialect: str) -> tuple[TensorSpec, ...]:
    """Inputs that tell where a cell ends (`scgpt_runtime.manifest.GraphRecord`)."""
    if dialect == "cuda-exact":
        return ()
    if dialect == "cuda-packed":
        return (
            TensorSpec("offsets", "int32", ("cells_plus_1",)),
            TensorSpec("places", "int32", ("cells", "longest")),
            TensorSpec("firsts", "int32", ("cells",)),
        )
    return (TensorSpec("lengths", "int32", ("cells",)),)


def trace(module: nn.Module, signature: Signature) -> ir.Model:
    """Trace a module with torch's exporter.

    Parameters
    ----------
    module
        In eval mode, float32; takes the inputs of the signature in order.
    signature
        Names and shapes; axes with a name stay free.

    Returns
    -------
    The model at opset `OPSET`, weights in memory, its inputs and outputs named by the signature.
    """
    axes = {name: torch.export.Dim(name, min=1, max=1 << 24) for name in _EXAMPLE}
    example = tuple(_example(spec) for spec in signature.inputs)
    dynamic = tuple(
        {axis: axes[name] for axis, name in enumerate(spec.shape) if isinstance(name, str)} for spec in signature.inputs
    )
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            dynamic_shapes=dynamic,
            verbose=False,
        )
        if program is None:
            raise InternalError("torch.onnx.export returned no program.")
        model: ir.Model = program.model
        # Slices and transposes of weights are folded whatever their size: else they are done anew at every start,
        # and passes that look for a weight do not find it.
        onnxscript.optimizer.optimize(model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    found = model.opset_imports.get("")
    if found != OPSET:
        raise InternalError(f"The traced graph is at opset {found}, not {OPSET}.")
    return model


def _example(spec: TensorSpec) -> torch.Tensor:
    """Smallest honest input: sizes that no axis of the model has by chance."""
    shape = [_EXAMPLE[size] if isinstance(size, str) else size for size in spec.shape]
    return torch.ones(shape, dtype=getattr(torch, spec.dtype))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints and warns about its own insides; its users can do nothing about it."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
