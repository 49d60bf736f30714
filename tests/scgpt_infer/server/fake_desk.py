"""A desk without a model: answers at once with vectors that depend on a cell's known genes and values alone.

It has the demo model's manifest and vocabulary. ``from tests.scgpt_infer.server.fake_desk import FakeDesk``.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import __version__, demo, schema
from scgpt_infer.abilities import abilities
from scgpt_infer.server.asking import Answer, Ask, Cells
from scgpt_infer.server.desk import Here, Status
from scgpt_infer.server.refusals import NotFound
from scgpt_infer.tasks.annotate import Annotation, softmax
from scgpt_infer.tasks.embed import Embedding
from scgpt_infer.writers.sink import Record
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellFault, Result


@cache
def demo_here(name: str = "demo", generation: int = 1) -> Here:
    """The demo model as a desk tells of it."""
    bundle = Bundle.open(demo.BUNDLE)
    manifest, settings = bundle.manifest, bundle.manifest.tokenizer
    run: dict[str, str | int | float] = {
        "version": __version__,
        "model": manifest.name,
        "vector_id": manifest.vector_ids["fp32"],
        "weights_sha256": manifest.weights,
        "vocabulary_sha256": bundle.sha256("vocab.json"),
        "dim": manifest.dim,
        "provider": "cpu",
        "precision": "fp32",
        "max_length": settings.max_length,
        "seed": settings.seed,
        "ties": settings.ties,
        "sample": settings.sample,
        "genes": "exact",
    }
    return Here(
        name=name,
        generation=generation,
        manifest=manifest,
        vocabulary=bundle.vocabulary(),
        vector_id=manifest.vector_ids["fp32"],
        abilities=abilities(manifest),
        labels=manifest.labels,
        run=run,
        max_length=settings.max_length,
    )


class FakeLabeller:
    """Labels by the first numbers of a vector."""

    def __init__(self) -> None:
        self.labels = demo_here().labels
        self.facts: Record = {"from": "classifier"}

    def ranked(
        self, raw: NDArray[np.float32], unit: NDArray[np.float32], top: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        probabilities = softmax(20 * unit[:, : len(self.labels)])
        codes = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        found = np.take_along_axis(probabilities, codes, axis=1)
        return codes.astype(np.int32), found.astype(np.float32)


class FakeDesk:
    """A `Desk` that keeps what it was asked (`asked`, `called`) and does as a test tells it.

    `refuses`, where it is set, is raised in place of an answer. `gate`, where it is set, is waited for before one;
    `cancelled` counts the askers that left meanwhile.
    """

    def __init__(self, *models: Here) -> None:
        self.models = {here.name: here for here in models or (demo_here(),)}
        self.asked: list[Ask] = []
        self.called: list[tuple[str, Mapping[str, Any]]] = []
        self.refuses: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.cancelled = 0
        self.ready = True

    def statuses(self) -> Sequence[Status]:
        return [Status(here.name, here.generation, "ready") for here in self.models.values()]

    def here(self, name: str | None = None) -> Here:
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise NotFound(f"There is no model {name!r}; there is {', '.join(self.models)}.")
        return self.models[name]

    async def ask(self, here: Here, ask: Ask) -> Answer:
        self.asked.append(ask)
        await self._turn()
        return answer(here, ask)

    async def call(self, here: Here, task: str, body: bytes, client: str, within: float | None) -> bytes:
        self.called.append((task, json.loads(body)))
        await self._turn()
        told = {"schema": schema.NAME, "task": task, "run": dict(here.run)}
        return (json.dumps(told) + "\n").encode()

    async def load(self, name: str) -> None:
        before = self.models.get(name)
        self.models[name] = demo_here(name, 1 if before is None else before.generation + 1)

    async def unload(self, name: str) -> None:
        self.here(name)
        del self.models[name]

    async def _turn(self) -> None:
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.refuses is not None:
            raise self.refuses


def answer(here: Here, ask: Ask) -> Answer:
    """What the fake model says of cells."""
    rows = [_cell(ask.cells, row, here.manifest.dim) for row in range(ask.cells.n_cells)]
    faults = np.array([fault for _, fault, _ in rows], np.uint8)
    lengths = np.array([length for _, _, length in rows], np.int32)
    result = Result({"cell": np.array([vector for vector, _, _ in rows])}, faults, lengths, 0)
    task: Annotation | Embedding = Embedding()
    if ask.task == "annotate":
        task = Annotation(FakeLabeller(), ask.options.get("top", 3), ask.options.get("unknown_below", 0.5))
    part = task(result)
    counts = {"n_cells": part.n_cells, "n_without_embedding": sum(map(bool, part.reasons))}
    seconds = {"queue": 0.001, "tokenise": 0.0005, "infer": 0.002}
    run = schema.run_facts({**here.run, **task.facts, **counts})
    return Answer(part, task.columns, task.kind, run, int(lengths.sum()), seconds)


def _cell(cells: Cells, row: int, dim: int) -> tuple[NDArray[np.float32], CellFault, int]:
    """A cell's vector, fault and length."""
    values = cells.values[cells.indptr[row] : cells.indptr[row + 1]].astype(np.float64)
    tokens = cells.tokens[cells.indptr[row] : cells.indptr[row + 1]]
    used = values[(tokens >= 0) & (values != 0)]
    faults = {
        CellFault.NAN: np.isnan(values).any(),
        CellFault.INFINITE: np.isinf(values).any(),
        CellFault.NEGATIVE: (values < 0).any(),
        CellFault.NO_COUNTS: not (values != 0).any(),
        CellFault.NO_KNOWN_GENE: not len(used),
    }
    for fault, there in faults.items():
        if there:
            return np.full(dim, np.nan, np.float32), fault, 0
    pairs = sorted(zip(tokens.tolist(), values.tolist(), strict=True))
    told = [pair for pair in pairs if pair[0] >= 0 and pair[1] != 0]
    seed = int.from_bytes(hashlib.sha256(json.dumps(told).encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32), CellFault.NONE, len(used) + 1
