"""A seat for tests of jobs: an engine behind a local socket, which speaks as a real seat does to a job's process.

``from tests.scgpt_infer.server.jobs.seat_stand_in import seat``.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.models import lasting_cache
from scgpt_infer.options import EmbedOptions
from scgpt_infer.server import wire
from scgpt_infer.server.wire import Message
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.engine import Engine


@dataclass
class Seat:
    """A seat: `answers_left`, where it is set, are given before it hangs up; it waits at a closed `gate`, and `begun`
    tells that it has a block; `told_path` is what it calls its bundle."""

    path: Path
    engine: Engine
    answers_left: int | None = None
    told_path: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[int] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)


@contextmanager
def seat(model: Path, path: Path) -> Iterator[Seat]:
    """A seat that listens at a path."""
    with (
        Engine.open(Bundle.open(model), cache_dir=lasting_cache()) as engine,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
    ):
        found = Seat(path, engine)
        found.gate.set()
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_accept, args=(listener, found))
        thread.start()
        try:
            yield found
        finally:
            found.gate.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, found: Seat) -> None:
    with suppress(OSError):
        while True:
            link, _ = listener.accept()
            with link, suppress(OSError):
                _serve(link, found)


def _serve(link: socket.socket, found: Seat) -> None:
    columns = np.empty(0, np.int64)
    while (message := wire.receive(link)) is not None:
        if message.kind == "about":
            engine = found.engine
            told = {
                "path": found.told_path or str(engine.bundle.path),
                "options": asdict(EmbedOptions()),
                "reference": None,
                "choice": asdict(engine.choice),
                "settings": asdict(engine.settings),
                "vector_id": engine.vector_id,
                "batch_tokens": engine.batch_tokens,
            }
            wire.send(link, Message("about", told))
            continue
        if message.kind == "columns":
            columns = message.arrays[0]
            continue
        found.asked.append(message.fields["first_row"])
        found.begun.set()
        found.gate.wait()
        if found.answers_left == 0:
            return
        if found.answers_left is not None:
            found.answers_left -= 1
        _answer(link, found.engine, message, columns)


def _answer(link: socket.socket, engine: Engine, message: Message, columns: NDArray[np.int64]) -> None:
    block = CellBlock(*message.arrays, message.fields["first_row"])

    def tick(cells: int) -> None:
        wire.send(link, Message("tick", {"id": message.fields["id"], "cells": cells}))

    (result,) = engine.run([block], columns, tick)
    told = {**message.fields, "outputs": list(result.outputs)}
    wire.send(link, Message("result", told, (result.faults, result.lengths, *result.outputs.values())))
