"""Reference against the runtime, on golden cells: no pass, no seal.

In: the reference model, golden cells, and graphs on disk. Out: a figure for each task and precision, of the worst
cell: 1 - cosine of embeddings of cells and genes and of hidden states, the relative error of what heads answer. Heads
are measured from the cell's tokens to their own answer, on top of the graph of their precision.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scgpt_export.golden_cells import cell_inputs
from scgpt_export.modality_graphs import answers_from_cell
from scgpt_export.reference import ScGPT
from scgpt_runtime.batching import BatchPlan, rectangles
from scgpt_runtime.cells import Batch, TokenBlock
from scgpt_runtime.manifest import ParityRecord, TokenizerSettings
from scgpt_runtime.proof import LIMITS, one_minus_cosine
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.session import Session

__all__ = ["Answers", "Graphs", "measure", "one_thread", "reference_answers", "within"]

_TOGETHER = 4
_VECTORS = ("embed", "tokens", "genes")
_PER_CELL = ("embed", "classify", "discriminate", "perturb")  # or of cells of one length alone: nothing to cut off
_ORDER = ("embed", "tokens", "attention", "perturb", "genes", "classify", "discriminate", "expression", "mvc")

Answers = dict[str, list[list[NDArray[np.float32]]]]
"""Task to cell to the outputs of its graph, each with the axis of the cells taken off."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Where the graphs of one precision and dialect lie, by task."""

    precision: str
    paths: Mapping[str, Path]
    dialect: str = "portable"


def reference_answers(
    model: ScGPT,
    tokens: TokenBlock,
    settings: TokenizerSettings,
    tasks: tuple[str, ...],
    modalities: NDArray[np.uint8] | None = None,
) -> Answers:
    """What the reference says of each cell, alone and unpadded.

    Where the model has batch labels, cell i has label i modulo their number.

    Parameters
    ----------
    model
        Float32, eval mode.
    tokens
        The golden cells.
    settings
        What they were tokenised with.
    tasks
        Tasks to answer.
    modalities
        (n_tokens,) number of each token's modality, of a model that has several.
    """
    answers: Answers = {task: [] for task in tasks}
    with torch.no_grad(), one_thread():
        for cell in range(tokens.n_cells):
            ids, values = cell_inputs(tokens, cell, settings)
            label = torch.tensor([cell % model.config.n_batches]) if model.config.needs_batch else None
            mods = _mods(model, ids, modalities)
            scores = tasks == ("attention",)
            found = _scores(model, ids, values, label) if scores else _answer(model, ids, values, label, mods)
            for task, outputs in found.items():
                if task in answers:
                    answers[task].append([output[0].numpy() for output in outputs if output is not None])
    return answers


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are taken in one order whatever the number of cores, so golden vectors are the same to the bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _scores(
    model: ScGPT, ids: torch.Tensor, values: torch.Tensor, batch: torch.Tensor | None
) -> dict[str, tuple[torch.Tensor | None, ...]]:
    """Attention scores, which are too large to be taken where nobody asks for them."""
    return {"attention": (model.scores(ids, values, torch.zeros_like(ids, dtype=torch.bool), batch),)}


def _mods(model: ScGPT, ids: torch.Tensor, modalities: NDArray[np.uint8] | None) -> torch.Tensor | None:
    """Modality of each token as the reference takes it; None where its decoders see none."""
    told = model.config.multiomic
    if modalities is None or told is None or not told.n_modalities:
        return None
    return torch.from_numpy(modalities.astype(np.int64))[ids]


def _answer(
    model: ScGPT,
    ids: torch.Tensor,
    values: torch.Tensor,
    batch: torch.Tensor | None,
    mods: torch.Tensor | None,
) -> dict[str, tuple[torch.Tensor | None, ...]]:
    """Everything that the model has an answer to, by task."""
    hidden = model.encode(ids, values, torch.zeros_like(ids, dtype=torch.bool), batch)
    cell = model.pool(hidden, values)
    found: dict[str, tuple[torch.Tensor | None, ...]] = {
        "embed": (cell,),
        "tokens": (hidden,),
        "genes": (model.encoder(ids),),
        "expression": model.predict(hidden, batch, mods),
    }
    if model.cls_decoder is not None:
        found["classify"] = (model.cls_decoder(cell),)
    if model.grad_reverse_discriminator is not None:
        found["discriminate"] = (model.grad_reverse_discriminator(cell),)
    if answers_from_cell(model.config):
        found["mvc"] = model.predict_from_cell(cell, ids, batch, mods)
    return found


def measure(
    graphs: Graphs,
    tokens: TokenBlock,
    settings: TokenizerSettings,
    expected: Answers,
    n_batches: int,
    modalities: NDArray[np.uint8] | None = None,
) -> list[ParityRecord]:
    """Run every graph of a precision on the CPU and compare.

    Parameters
    ----------
    graphs
        Graphs on disk.
    tokens, settings
        The golden cells and what they were tokenised with.
    expected
        Answers of the reference.
    n_batches
        Number of batch labels that cells have in turn; 0 where the model has none.
    modalities
        (n_tokens,) number of each token's modality, of a model that has several.

    Returns
    -------
    One record a task, in the order of ``expected``.
    """
    why = "one thread, so that a bundle has the same bytes whatever the number of cores"
    choice = ProviderChoice("cpu", graphs.precision, graphs.precision, "portable", 1, 1, why)
    sessions = {task: Session.open(path, choice) for task, path in graphs.paths.items()}
    worst = dict.fromkeys(expected, 0.0)
    # Several cells of unlike length side by side, so that parity proves padding too, where a graph knows any.
    together = BatchPlan("padded", _TOGETHER * settings.max_length)
    alike = replace(together, kind="exact", budget=1 if graphs.dialect == "cuda-exact" else together.budget)
    masked = graphs.dialect != "cuda-exact" and tokens.flags is None
    for batch in rectangles(tokens, settings, together if masked else alike):
        outputs = _run(sessions, batch, n_batches, modalities)
        for task, answers in expected.items():
            for place, cell in enumerate(batch.cells):
                found = [_cut(task, output[place], int(batch.lengths[place])) for output in outputs[task]]
                worst[task] = max(worst[task], _difference(task, found, answers[cell]))
    return [_record(graphs, task, sessions[task].provider, worst[task], tokens.n_cells) for task in expected]


def _cut(task: str, output: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """A cell's answer without what stands at padding."""
    if task == "attention":  # (heads, queries, keys)
        return output[:, :length, :length]
    return output if task in _PER_CELL else output[:length]


def _record(graphs: Graphs, task: str, provider: str, worst: float, n_cells: int) -> ParityRecord:
    """Heads may turn their answer by the angle that a vector may turn by, and their length counts as well."""
    precision, dialect = graphs.precision, graphs.dialect
    if task in _VECTORS:
        return ParityRecord(task, precision, provider, "1-cosine", worst, LIMITS[precision], n_cells, dialect)
    limit = round(math.sqrt(2 * LIMITS[precision]), 4)
    return ParityRecord(task, precision, provider, "relative", worst, limit, n_cells, dialect)


def within(record: ParityRecord) -> bool:
    """Whether a figure is within its limit; what is not a number never is."""
    return record.worst <= record.limit


def _run(
    sessions: Mapping[str, Session], batch: Batch, n_batches: int, modalities: NDArray[np.uint8] | None
) -> dict[str, list[NDArray[np.float32]]]:
    """Answers of all tasks; heads take what ``embed`` and ``tokens`` gave."""
    known: dict[str, NDArray[Any]] = {"ids": batch.ids, "values": batch.values, "lengths": batch.lengths}
    if batch.flags is not None:
        known["flags"] = batch.flags
    known["batch"] = (batch.cells % max(1, n_batches)).astype(np.int32)
    if modalities is not None:
        known["mods"] = modalities[batch.ids]
    answers = {}
    for task in _ORDER:
        if task == "genes" and task in sessions:
            (genes,) = sessions[task].feed({"ids": batch.ids.ravel()}).values()
            answers[task] = [genes.reshape(*batch.ids.shape, -1)]
        elif task in sessions:
            session = sessions[task]
            found = session.feed({spec.name: known[spec.name] for spec in session.inputs})
            known.update(found)
            answers[task] = list(found.values())
    return answers


def _difference(task: str, found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]) -> float:
    """How far a cell's answer is from the reference's, worst output; infinite where it is not finite."""
    pairs = list(zip(found, expected, strict=True))
    if task in _VECTORS:
        return max(float(one_minus_cosine(a.reshape(1, -1), b.reshape(1, -1))[0]) for a, b in pairs)
    return max(_relative(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs)


def _relative(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Length of the difference over the length of what was expected."""
    error = float(np.linalg.norm(found - expected)) / max(float(np.linalg.norm(expected)), 1e-30)
    return error if math.isfinite(error) else math.inf
