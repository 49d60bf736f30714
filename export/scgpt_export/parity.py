"""Reference against the runtime, on golden cells: no pass, no seal.

In: the reference model, golden cells, and graphs on disk. Out: a figure for each task and precision, 1 - cosine
of the worst cell. Heads are measured from the cell's tokens to their own answer, on top of the graph of
their precision. It decides nothing but whether a figure is within its limit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scgpt_export.golden_cells import batch_label, cell_inputs
from scgpt_export.reference import ScGPT
from scgpt_runtime.batching import batches
from scgpt_runtime.cells import Batch, TokenBlock
from scgpt_runtime.golden import Golden
from scgpt_runtime.manifest import ParityRecord, TokenizerSettings
from scgpt_runtime.providers import PROVIDERS, ProviderChoice, cores
from scgpt_runtime.session import Session

__all__ = ["LIMITS", "Answers", "Graphs", "measure", "reference_answers", "within"]

LIMITS: Mapping[str, float] = {"fp32": 1e-6, "fp16": 1e-4, "bf16": 1e-3, "int8": 1e-2}
"""Largest 1 - cosine of the worst golden cell, by precision."""

_TOGETHER = 4
_PER_CELL = ("embed", "classify")
_ORDER = ("embed", "tokens", "classify", "expression", "mvc")

Answers = dict[str, list[NDArray[np.float32]]]
"""Task to one flat vector a cell."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Where the graphs of one precision lie, by task."""

    precision: str
    paths: Mapping[str, Path]


def reference_answers(model: ScGPT, golden: Golden, settings: TokenizerSettings, tasks: tuple[str, ...]) -> Answers:
    """What the reference says of each golden cell, alone and unpadded.

    Parameters
    ----------
    model
        Float32, eval mode.
    golden
        The cells.
    settings
        What they were tokenised with.
    tasks
        Tasks to answer.
    """
    answers: Answers = {task: [] for task in tasks}
    with torch.no_grad():
        for cell in range(golden.n_cells):
            ids, values = cell_inputs(golden, cell, settings)
            for task, answer in _answer(model, ids, values, tasks):
                answers[task].append(answer.numpy().ravel())
    return answers


def _answer(
    model: ScGPT, ids: torch.Tensor, values: torch.Tensor, tasks: tuple[str, ...]
) -> Iterator[tuple[str, torch.Tensor]]:
    batch = batch_label(model)
    padding = torch.zeros_like(ids, dtype=torch.bool)
    given = model(ids, values, padding, batch, cls="classify" in tasks, mvc="mvc" in tasks)
    found = {
        "embed": given["cell_emb"],
        "tokens": model.encode(ids, values, padding, batch),
        "classify": given.get("cls_output"),
        "expression": given["mlm_output"],
        "mvc": given.get("mvc_output"),
    }
    for task in tasks:
        answer = found[task]
        if answer is not None:
            yield task, answer


def measure(graphs: Graphs, golden: Golden, settings: TokenizerSettings, expected: Answers) -> list[ParityRecord]:
    """Run every graph of a precision on the CPU and compare.

    Models with batch labels are measured on their first one.

    Parameters
    ----------
    graphs
        Graphs on disk.
    golden, settings
        The cells and what they were tokenised with.
    expected
        Answers of the reference.

    Returns
    -------
    One record a task, in the order of ``expected``.
    """
    why = "export measures where graphs run everywhere"
    choice = ProviderChoice("cpu", PROVIDERS["cpu"], graphs.precision, "portable", cores().usable, why)
    sessions = {task: Session.open(path, choice) for task, path in graphs.paths.items()}
    worst = dict.fromkeys(expected, 0.0)
    faults = np.zeros(golden.n_cells, np.uint8)
    tokens = TokenBlock(golden.ids, golden.values, golden.offsets, faults, 0)
    # Several cells of unlike length side by side, so that parity proves padding too.
    for batch in batches(tokens, settings, _TOGETHER * settings.max_length):
        outputs = _run(sessions, batch)
        for task, answers in expected.items():
            for place, cell in enumerate(batch.cells):
                found = outputs[task][place]
                if task not in _PER_CELL:
                    found = found[: batch.lengths[place]]
                worst[task] = max(worst[task], _distance(found.ravel(), answers[cell]))
    limit = LIMITS[graphs.precision]
    return [
        ParityRecord(task, graphs.precision, sessions[task].provider, "1-cosine", worst[task], limit, golden.n_cells)
        for task in expected
    ]


def within(record: ParityRecord) -> bool:
    """Whether a figure is within its limit; what is not a number never is."""
    return record.worst <= record.limit


def _run(sessions: Mapping[str, Session], batch: Batch) -> dict[str, NDArray[np.float32]]:
    """Answers of all tasks; heads take what ``embed`` and ``tokens`` gave."""
    known: dict[str, NDArray[Any]] = {"ids": batch.ids, "values": batch.values, "lengths": batch.lengths}
    known["batch"] = np.zeros(len(batch.cells), np.int32)
    answers = {}
    for task in _ORDER:
        if task in sessions:
            session = sessions[task]
            found = session.feed({spec.name: known[spec.name] for spec in session.inputs})
            known.update(found)
            answers[task] = next(iter(found.values()))
    return answers


def _distance(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """1 - cosine in float64; infinite where an answer is not finite."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(a).all():
        return float("inf")
    if len(a) == 1:  # a single number has no direction
        return float(abs(a[0] - b[0]) / max(abs(b[0]), 1.0))
    # From unit vectors, since 1 - a.b loses all digits of a small figure.
    a /= np.linalg.norm(a)
    b /= np.linalg.norm(b)
    return float(0.5 * np.square(a - b).sum())
