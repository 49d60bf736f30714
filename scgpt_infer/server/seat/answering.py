"""What a seat does with messages: `Seat`, which opens no socket and starts no process.

In: messages of front ends and of runners of whole files. Out: messages, given to the link that asked.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from scgpt_infer.abilities import abilities
from scgpt_infer.facts import of_model
from scgpt_infer.schema import run_facts
from scgpt_infer.server import metrics
from scgpt_infer.server.asking import Cells
from scgpt_infer.server.refusals import NotReady, Unprocessable, refusal_of
from scgpt_infer.server.seat.batch import units_of
from scgpt_infer.server.seat.calling import Call, Calling
from scgpt_infer.server.seat.opening import Opened
from scgpt_infer.server.seat.request import Request, Slice
from scgpt_infer.server.seat.spec import Spec
from scgpt_infer.server.seat.tokens import tokens_of
from scgpt_infer.server.seat.work import Work
from scgpt_infer.server.wire import Message
from scgpt_infer.tasks import Task
from scgpt_infer.tasks.annotate import Annotation
from scgpt_infer.tasks.embed import Embedding
from scgpt_infer.writers.sink import Part
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.engine import Engine

__all__ = ["Asker", "Seat", "refused"]

Tell = Callable[[Message], None]

_log = logging.getLogger(__name__)


class Asker:
    """One link's requests, and how it is told; lives as long as the link.

    Attributes
    ----------
    tell
        Sends a message; never waits.
    """

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.requests: dict[int, Request] = {}
        self.calls: dict[int, Call] = {}
        self.columns: np.ndarray[Any, np.dtype[np.int64]] = np.empty(0, np.int64)


class Seat:
    """Answers messages with an open model.

    Parameters
    ----------
    spec
        What was asked to be opened.
    opened
        The model.
    work
        Runs it; None where it makes no vectors.
    calling
        Does the tasks that are no matter of single cells.
    """

    def __init__(self, spec: Spec, opened: Opened, work: Work | None, calling: Calling) -> None:
        self._spec, self._opened, self._work, self._calling = spec, opened, work, calling
        self._ending = False
        self._doing: Mapping[str, Callable[[Asker, Message], None]] = {
            "about": self._about,
            "ask": self._ask,
            "columns": self._columns,
            "block": self._block,
            "call": self._call,
            "cancel": self._cancel,
        }

    @property
    def digest(self) -> str:
        """Of the bundle that is open."""
        return self._opened.bundle.digest

    def end(self) -> None:
        """Take no more blocks of files, which would never end; they go to the next seat."""
        self._ending = True

    def hear(self, asker: Asker, message: Message) -> None:
        """Do what a message asks for."""
        try:
            self._doing[message.kind](asker, message)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status == 500:
                _log.exception("A message of kind %s could not be answered.", message.kind)
            asker.tell(refused(message.fields.get("id"), error))

    def leave(self, asker: Asker) -> None:
        """A link has gone: nobody waits for its answers."""
        for request in list(asker.requests.values()):
            if self._work is not None:
                self._work.cancel(request)
        for call in list(asker.calls.values()):
            self._calling.cancel(call)
        asker.requests.clear()
        asker.calls.clear()

    def _about(self, asker: Asker, message: Message) -> None:
        """Who this is; with all that a runner needs to stand in for the engine."""
        bundle, engine, labels = self._opened.bundle, self._opened.engine, self._opened.labels
        options = self._opened.options
        able = [task for task in abilities(bundle.manifest) if task != "annotate" or labels is not None]
        fields: dict[str, Any] = {
            "id": message.fields.get("id"),
            "name": self._spec.name,
            "generation": self._spec.generation,
            "manifest": bundle.manifest.to_json(),
            "vocabulary": bundle.vocabulary().to_json(),
            "path": str(bundle.path),
            "abilities": able,
            "labels": [] if labels is None else list(labels.labeller.labels),
            "options": asdict(options),
            "reference": self._spec.reference,
        }
        if engine is not None:
            told = run_facts({**of_model(bundle, engine, options), "genes": options.genes})
            fields |= {
                "vector_id": engine.vector_id,
                "run": told,
                "max_length": engine.settings.max_length,
                "choice": asdict(engine.choice),
                "settings": asdict(engine.settings),
                "batch_tokens": engine.batch_tokens,
            }
        asker.tell(Message("about", fields))

    def _ask(self, asker: Asker, message: Message) -> None:
        """Answer cells of a request: ``ask {id, task, client, within, options}``, indptr, tokens, values."""
        engine, work, fields = *self._running(), message.fields
        task = self._task(fields["task"], fields.get("options") or {})
        started = time.perf_counter()
        indptr, genes, values = message.arrays
        cells = Cells(indptr, genes, values)
        if not cells.n_cells:
            raise Unprocessable("The request has no cells; expected at least one.")
        tokens = tokens_of(cells, engine.tokenise, alone=engine.settings.include_zeros)
        tokenised = time.perf_counter() - started
        metrics.stage(self._spec.name, "tokenise", tokenised)

        def end(request: Request, error: Exception | None) -> None:
            _end(asker, fields["id"], error, lambda: self._answer(fields["id"], request, task, tokenised))

        request = Request(tokens, fields["client"], _until(fields), end)
        asker.requests[fields["id"]] = request
        try:
            work.ask(request)
        except Exception:
            asker.requests.pop(fields["id"], None)
            raise

    def _answer(self, number: int, request: Request, task: Task, tokenised: float) -> Message:
        engine, _ = self._running()
        part = task(request.result(engine.shapes))
        queued = 0.0 if request.begun is None else request.begun - request.arrived
        fields = {
            "id": number,
            "kind": task.kind,
            "reasons": part.reasons,
            "columns": [(column.name, column.words) for column in task.columns],
            "run": run_facts({**task.facts, **_counts(part)}),
            "tokens": request.n_tokens,
            "seconds": {"tokenise": tokenised, "queue": queued, "infer": request.infer},
        }
        columns = [part.columns[column.name] for column in task.columns]
        return Message("answer", fields, (part.vectors, *columns))

    def _task(self, name: str, options: Mapping[str, Any]) -> Task:
        if name == "embed":
            return Embedding()
        labels = self._opened.labels
        if name != "annotate" or labels is None:
            raise Unprocessable(f"The model {self._spec.name} cannot {name} cells as they come.")
        below = options.get("unknown_below")
        return Annotation(
            labels.labeller, options.get("top") or labels.how.top, labels.unknown_below if below is None else below
        )

    def _columns(self, asker: Asker, message: Message) -> None:
        """The token id of each column of the file that blocks come from, before the first of them."""
        asker.columns = np.array(message.arrays[0], np.int64)

    def _block(self, asker: Asker, message: Message) -> None:
        """Answer a block of a file by itself: ``block {id, first_row}``, indptr, indices, data.

        No batch has cells of others, so that its rows are those that one process alone would give.
        """
        if self._ending:
            raise NotReady(f"This process of {self._spec.name} is about to end.")
        engine, work, number = *self._running(), message.fields["id"]
        indptr, indices, data = message.arrays
        block = CellBlock(indptr, indices, data, message.fields["first_row"])
        tokens = engine.tokenise(block, asker.columns)

        def answer(request: Request) -> Message:
            result = request.result(engine.shapes)
            fields = {"id": number, "first_row": block.first_row, "outputs": list(result.outputs)}
            return Message("result", fields, (result.faults, result.lengths, *result.outputs.values()))

        def end(request: Request, error: Exception | None) -> None:
            _end(asker, number, error, lambda: answer(request))

        def tick(cells: int) -> None:
            asker.tell(Message("tick", {"id": number, "cells": cells}))

        request = Request(tokens, "", None, end, tick=tick)
        units = [] if request.done else units_of([Slice(request, 0, tokens.n_cells)], engine.batches)
        asker.requests[number] = request
        request.tick(tokens.n_cells - int(np.count_nonzero(np.diff(tokens.offsets))))
        if request.done:
            request.finish()
            return
        work.file(units)

    def _call(self, asker: Asker, message: Message) -> None:
        """Do another task: ``call {id, task, body, client, within}``."""
        fields, number = message.fields, message.fields["id"]

        def end(answer: bytes | None, error: Exception | None) -> None:
            asker.calls.pop(number, None)
            if error is not None or answer is None:
                asker.tell(refused(number, error or RuntimeError("no answer")))
                return
            asker.tell(Message("called", {"id": number, "answer": answer}))

        call = Call(fields["task"], fields["body"], fields["client"], _until(fields), end)
        asker.calls[number] = call
        try:
            self._calling.put(call)
        except Exception:
            asker.calls.pop(number, None)
            raise

    def _cancel(self, asker: Asker, message: Message) -> None:
        number = message.fields["id"]
        request, call = asker.requests.pop(number, None), asker.calls.pop(number, None)
        if request is not None and self._work is not None:
            self._work.cancel(request)
        if call is not None:
            self._calling.cancel(call)

    def _running(self) -> tuple[Engine, Work]:
        if self._opened.engine is None or self._work is None:
            raise Unprocessable(f"The model {self._spec.name} makes no vectors of cells without batch labels.")
        return self._opened.engine, self._work


def _end(asker: Asker, number: int, error: Exception | None, answer: Callable[[], Message]) -> None:
    """Tell a link the answer to a request, or why there is none."""
    asker.requests.pop(number, None)
    if error is not None:
        asker.tell(refused(number, error))
        return
    try:
        message = answer()
    except Exception as failed:
        _log.exception("What becomes of a model's answers failed.")
        message = refused(number, failed)
    asker.tell(message)


def _until(fields: Mapping[str, Any]) -> float | None:
    """When nobody wants an answer any more; it is asked for within so many seconds, or with all the time there is."""
    within = fields.get("within")
    return None if within is None else time.monotonic() + within


def refused(number: int | None, error: Exception) -> Message:
    """The message that something is not answered."""
    refusal = refusal_of(error)
    fields = {
        "id": number,
        "status": refusal.status,
        "code": refusal.code,
        "message": str(refusal),
        "retry_after": refusal.retry_after,
    }
    return Message("refused", fields)


def _counts(part: Part) -> dict[str, int]:
    return {"n_cells": part.n_cells, "n_without_embedding": sum(map(bool, part.reasons))}
