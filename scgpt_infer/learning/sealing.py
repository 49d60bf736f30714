"""A fitted classifier becomes the head of a new bundle, which is a bundle only when its head answers as scikit-learn.

In: the bundle that made the vectors, a `Fit`, its record. Out: a folder or zip. All but the head is the base's, byte
for byte, so the new bundle makes the same vectors.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.learning.fitting import Fit
from scgpt_infer.onnx_bytes import attribute, model, node, tensor, value
from scgpt_infer.tasks.annotate import softmax
from scgpt_infer.writers.folder import published
from scgpt_infer.writers.sink import output_errors
from scgpt_runtime.bundle import Bundle, pack, seal
from scgpt_runtime.errors import InternalError
from scgpt_runtime.external import external_locations
from scgpt_runtime.manifest import GraphRecord, Manifest, Taught, TensorSpec
from scgpt_runtime.runners import open_head

__all__ = ["head_graph", "sealed"]

HEAD = "classify"
PATH = "graphs/classify.taught.onnx"
OPSET = 17
LIMIT = 1e-5
"""Most that a probability of the sealed head may differ from scikit-learn's, where no logit is above `USUAL_LOGIT`.
Hardly regularised weights give larger ones, of which float32 keeps seven digits too.
"""

USUAL_LOGIT = 10

ASKED = 1000


def head_graph(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """An ONNX graph from ``cell`` (cells, dim), vectors of any length, to ``logits`` (cells, classes).

    Vectors are brought to unit length first, so that one that was brought there before gets the same answer; for a
    zero vector that is NaN.

    Parameters
    ----------
    weights, bias
        (classes, dim) and (classes,).
    """
    n_classes, dim = weights.shape
    nodes = [
        node("ReduceL2", ["cell"], "length", attribute("axes", [1])),
        node("Div", ["cell", "length"], "unit"),
        node("Gemm", ["unit", "weights", "bias"], "logits", attribute("transB", 1)),
    ]
    takes, gives = value("cell", "float32", ["cells", dim]), value("logits", "float32", ["cells", n_classes])
    return model(HEAD, nodes, [takes], [gives], [tensor("weights", weights), tensor("bias", bias)], OPSET)


def sealed(base: Bundle, fit: Fit, vectors: NDArray[np.float32], taught: Taught, output: Path) -> Manifest:
    """Write a bundle with the classifier in the place of the base's own, and prove it.

    Parameters
    ----------
    base
        The bundle that made the vectors.
    fit, taught
        The classifier, and what is told of it.
    vectors
        (n_cells, dim) those that `fit` has probabilities for.
    output
        A folder, or a zip where its suffix says so. It appears when it is proven.

    Raises
    ------
    OutputError
        It cannot be written.
    InternalError
        The head does not answer as scikit-learn's model does.
    """
    described = _manifest(base.manifest, fit, taught, output.stem)
    if output.suffix != ".zip":
        with published(output) as folder:
            return _written(base, fit, vectors, described, folder)
    with output_errors(output), tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as stage:
        manifest = _written(base, fit, vectors, described, Path(stage))
        pack(Path(stage), output)
    return manifest


def _written(base: Bundle, fit: Fit, vectors: NDArray[np.float32], described: Manifest, folder: Path) -> Manifest:
    """The bundle in a folder of its own, sealed and proven."""
    _copy(base, folder)
    (folder / PATH).parent.mkdir(exist_ok=True)
    (folder / PATH).write_bytes(head_graph(fit.weights, fit.bias))
    manifest = seal(folder, described)
    _prove(Bundle.open(folder), fit, vectors)
    return manifest


def _manifest(base: Manifest, fit: Fit, taught: Taught, name: str) -> Manifest:
    cell = TensorSpec("cell", "float32", ("cells", base.dim))
    logits = TensorSpec("logits", "float32", ("cells", len(fit.labels)))
    others = tuple(graph for graph in base.graphs if graph.task != HEAD)
    # One graph for all precisions of the vectors: it is small, and they differ by less than cells do.
    heads = (GraphRecord(HEAD, one, "portable", PATH, OPSET, (cell,), (logits,)) for one in base.precisions)
    return replace(
        base,
        name=name,
        graphs=(*others, *heads),
        parity=tuple(record for record in base.parity if record.task != HEAD),
        labels=fit.labels,
        taught=taught,
        files=(),
    )


def _copy(base: Bundle, folder: Path) -> None:
    """All files of a bundle but those that its classifier alone needs."""
    graphs = base.manifest.graphs
    old, kept = ({graph.path for graph in graphs if (graph.task == HEAD) is of_head} for of_head in (True, False))
    needed = {name for path in kept for name in _files(base, path)}
    dropped = {name for path in old for name in _files(base, path)} - needed
    for record in base.manifest.files:
        if record.path not in dropped:
            target = folder / record.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base.file(record.path), target)


def _files(base: Bundle, path: str) -> set[str]:
    """A graph's file and its data files."""
    home = PurePosixPath(path).parent
    return {path, *(str(home / name) for name in external_locations(base.file(path).read_bytes()))}


def _prove(bundle: Bundle, fit: Fit, vectors: NDArray[np.float32]) -> None:
    """Ask the sealed head about some of the cells that taught it, at unit length and at another."""
    rows = np.unique(np.linspace(0, len(vectors) - 1, ASKED).astype(np.int64))
    head = open_head(bundle, HEAD)
    try:
        for length in (1, 24):
            (logits,) = head.feed({"cell": vectors[rows] * np.float32(length)}).values()
            worst = float(np.abs(softmax(logits) - fit.probabilities[rows]).max())
            limit = LIMIT * max(1.0, float(np.abs(logits).max()) / USUAL_LOGIT)
            if not worst <= limit:
                raise InternalError(
                    f"The sealed classifier is {worst:.1e} from what was fitted (limit {limit:.0e}, {len(rows):,} "
                    "cells), so nothing was written."
                )
    finally:
        head.close()
