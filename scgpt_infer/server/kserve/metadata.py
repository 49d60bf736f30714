"""What the Open Inference Protocol tells of a server and its models: tensors, names, the model configuration.

`Here` and settings in, JSON's own nouns out. It knows no request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scgpt_infer import __version__
from scgpt_infer.server.desk import Here

__all__ = ["BACKEND", "EXTENSIONS", "INPUTS", "VERSION", "Spec", "configuration", "model", "outputs", "server"]

VERSION = "1"
"""The one version of every model: a bundle is loaded in place of the one before it. ``vector_id`` tells which it is."""

BACKEND = "scgpt-infer"
"""What runs a model; the protocol's list of platforms is of single graphs."""

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""Extensions that are spoken, as their documents at triton-inference-server/server, docs/protocol, name them."""

_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor of a model.

    Attributes
    ----------
    name
        Of the tensor.
    datatype
        ``BYTES``, ``FP32`` or ``INT64``.
    shape
        -1 for a length that requests decide.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


INPUTS = (Spec("genes", "BYTES", (-1,)), Spec("values", "FP32", (-1,)), Spec("indptr", "INT64", (-1,)))
"""Cells as the rows of a sparse matrix (CSR): names of genes and their values, one cell after another, and the
(n_cells + 1) places at which cells begin and end."""


def outputs(here: Here) -> tuple[Spec, ...]:
    """Tensors that a model may answer with: vectors and reasons, and labels where it tells types.

    A model that makes no vectors of single cells has none: what it can do is asked elsewhere.
    """
    if "embed" not in here.abilities:
        return ()
    told = [Spec("embedding", "FP32", (-1, here.manifest.dim)), Spec("error", "BYTES", (-1,))]
    if "annotate" in here.abilities:
        told += [
            Spec("label", "BYTES", (-1,)),
            Spec("confidence", "FP32", (-1,)),
            Spec("candidates", "BYTES", (-1, -1)),
            Spec("candidate_confidences", "FP32", (-1, -1)),
        ]
    return tuple(told)


def server() -> dict[str, Any]:
    """The server metadata."""
    return {"name": BACKEND, "version": __version__, "extensions": list(EXTENSIONS)}


def model(here: Here) -> dict[str, Any]:
    """The metadata of a model."""
    return {
        "name": here.name,
        "versions": [VERSION],
        "platform": BACKEND,
        "inputs": _told(INPUTS),
        "outputs": _told(outputs(here)),
        "parameters": {"vector_id": here.vector_id},
    }


def configuration(here: Here) -> dict[str, Any]:
    """The model configuration: ``ModelConfig`` of model_config.proto, as JSON.

    Its ``max_batch_size`` is 0: the tensors of the cells of a request are of different lengths, so that no dimension
    counts cells. Cells of all requests share batches all the same.
    """
    facts = {"vector_id": here.vector_id, "model": here.manifest.name, "max_length": str(here.max_length)}
    return {
        "name": here.name,
        "platform": "",
        "backend": BACKEND,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [_configured(spec) for spec in INPUTS],
        "output": [_configured(spec) for spec in outputs(here)],
        "parameters": {name: {"string_value": value} for name, value in facts.items()},
    }


def _told(specs: Sequence[Spec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]


def _configured(spec: Spec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": list(spec.shape)}
