"""Reference against the runtime, on golden cells: no pass, no seal.

In: the reference model, golden cells, and graphs on disk. Out: a figure for each task and precision, 1 - cosine
of the worst cell. Heads are measured from the cell's tokens to their own answer, on top of the graph of
their precision. It decides nothing but whether a figure is within its limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scgpt_export.golden_cells import cell_inputs
from scgpt_export.reference import ScGPT
from scgpt_runtime.batching import batches
from scgpt_runtime.cells import Batch, TokenBlock
from scgpt_runtime.manifest import ParityRecord, TokenizerSettings
from scgpt_runtime.providers import PROVIDERS, ProviderChoice, cores
from scgpt_runtime.session import Session
from scgpt_runtime.verify import LIMITS, one_minus_cosine

__all__ = ["Answers", "Graphs", "measure", "reference_answers", "within"]

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


def reference_answers(model: ScGPT, tokens: TokenBlock, settings: TokenizerSettings, tasks: tuple[str, ...]) -> Answers:
    """What the reference says of each cell, alone and unpadded. Models with batch labels answer for the first one.

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
    """
    answers: Answers = {task: [] for task in tasks}
    with torch.no_grad():
        for cell in range(tokens.n_cells):
            ids, values = cell_inputs(tokens, cell, settings)
            for task, answer in _answer(model, ids, values).items():
                if task in answers:
                    answers[task].append(answer.numpy().ravel())
    return answers


def _answer(model: ScGPT, ids: torch.Tensor, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Everything that the model has an answer to, by task."""
    batch = torch.zeros(1, dtype=torch.int64) if model.config.needs_batch else None
    hidden = model.encode(ids, values, torch.zeros_like(ids, dtype=torch.bool), batch)
    cell = model.pool(hidden, values)
    found = {"embed": cell, "tokens": hidden, "expression": model.decoder(model.with_batch(hidden, batch))[0]}
    if model.cls_decoder is not None:
        found["classify"] = model.cls_decoder(cell)
    if model.mvc_decoder is not None:
        found["mvc"] = model.mvc_decoder(model.with_batch(cell, batch), model.encoder(ids))[0]
    return found


def measure(graphs: Graphs, tokens: TokenBlock, settings: TokenizerSettings, expected: Answers) -> list[ParityRecord]:
    """Run every graph of a precision on the CPU and compare.

    Models with batch labels are measured on their first one.

    Parameters
    ----------
    graphs
        Graphs on disk.
    tokens, settings
        The golden cells and what they were tokenised with.
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
    # Several cells of unlike length side by side, so that parity proves padding too.
    for batch in batches(tokens, settings, _TOGETHER * settings.max_length):
        outputs = _run(sessions, batch)
        for task, answers in expected.items():
            for place, cell in enumerate(batch.cells):
                found = outputs[task][place]
                if task not in _PER_CELL:
                    found = found[: batch.lengths[place]]
                worst[task] = max(worst[task], _distance(found, answers[cell]))
    limit = LIMITS[graphs.precision]
    return [
        ParityRecord(task, graphs.precision, sessions[task].provider, "1-cosine", worst[task], limit, tokens.n_cells)
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
    """1 - cosine of a cell's whole answer."""
    return float(one_minus_cosine(found.reshape(1, -1), expected[None])[0])
