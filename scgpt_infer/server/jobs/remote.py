"""Stands in for an engine in another process than the model's: `RemoteEngine`, blocks of cells over a seat's socket.

The seat tokenises and packs each block by itself, as `scgpt_runtime.engine.Engine` does, so its rows have the same bits
as those of the command line on the same machine. It knows no file and no job.
"""

import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.options import EmbedOptions
from scgpt_infer.server import wire
from scgpt_infer.server.wire import Message
from scgpt_runtime.cells import CellBlock, Result
from scgpt_runtime.errors import InputError, InternalError, ScgptInferError
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.pipeline import Ahead, Timings
from scgpt_runtime.providers import ProviderChoice

__all__ = ["About", "RemoteEngine", "TryAgain", "connected"]

_AT_WORK = 2
"""Blocks that the seat has: one is answered while the next is tokenised."""

_DEPTH = 1


class TryAgain(ScgptInferError):  # noqa: N818 - nothing is wrong with what was asked
    """It cannot be done now, by no fault of the file: mostly since the model's process is gone. What is kept stays."""


@dataclass(frozen=True, slots=True)
class About:
    """What a seat says of itself.

    Attributes
    ----------
    path
        Of its bundle.
    options
        That its model is run with.
    reference
        A reference index that tells types in place of the model's classifier.
    choice, settings, vector_id, batch_tokens
        See `scgpt_runtime.engine.Engine`.
    """

    path: str
    options: EmbedOptions
    reference: str | None
    choice: ProviderChoice
    settings: TokenizerSettings
    vector_id: str
    batch_tokens: int


class RemoteEngine:
    """An engine behind a socket; a `scgpt_infer.facts.Ran`.

    Parameters
    ----------
    link
        Connected to a seat, and used by this object alone.
    about
        What the seat says of itself.

    Attributes
    ----------
    about
        The same.
    """

    def __init__(self, link: socket.socket, about: About) -> None:
        self._link, self.about = link, about
        self._timings = Timings()

    @classmethod
    def over(cls, link: socket.socket) -> Self:
        """Ask a seat what it is.

        Raises
        ------
        TryAgain
            It does not answer.
        """
        with _losing():
            wire.send(link, Message("about"))
        return cls(link, msgspec.convert(dict(_answer(link).fields), About))

    @property
    def choice(self) -> ProviderChoice:
        """See `Ran`."""
        return self.about.choice

    @property
    def settings(self) -> TokenizerSettings:
        """See `Ran`."""
        return self.about.settings

    @property
    def vector_id(self) -> str:
        """See `Ran`."""
        return self.about.vector_id

    @property
    def batch_tokens(self) -> int:
        """See `Ran`."""
        return self.about.batch_tokens

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage; infer is how long this process has waited for the seat."""
        return dict(self._timings.seconds)

    def run(
        self, blocks: Iterable[CellBlock], columns: NDArray[np.int64], tick: Callable[[int], None]
    ) -> Iterator[Result]:
        """Results in the order of the blocks; `tick` is told of each number of cells that is answered.

        Raises
        ------
        TryAgain
            The seat is gone, or ends.
        InputError
            It takes no such cells.
        """
        with _losing():
            wire.send(self._link, Message("columns", {}, (np.ascontiguousarray(columns, np.int64),)))
        waiting: deque[tuple[int, int]] = deque()
        with Ahead(self._timings.timed("read", blocks), _DEPTH) as ahead:
            more = True
            while True:
                while more and len(waiting) < _AT_WORK and (not waiting or ahead.ready()):
                    block = ahead.take()
                    if block is None:
                        more = False
                        break
                    self._ask(block)
                    waiting.append((block.first_row, block.n_cells))
                if not waiting:
                    return
                yield self._result(*waiting.popleft(), tick)

    def _ask(self, block: CellBlock) -> None:
        fields = {"id": block.first_row, "first_row": block.first_row}
        with _losing():
            wire.send(self._link, Message("block", fields, (block.indptr, block.indices, block.data)))

    def _result(self, first_row: int, n_cells: int, tick: Callable[[int], None]) -> Result:
        left = n_cells
        with self._timings.during("infer"):
            answer = _answer(self._link)
        while answer.kind == "tick":
            if answer.fields["id"] == first_row:
                cells = min(int(answer.fields["cells"]), left)
                left -= cells
                tick(cells)
            with self._timings.during("infer"):
                answer = _answer(self._link)
        fields: Mapping[str, Any] = answer.fields
        if answer.kind != "result" or fields["id"] != first_row:
            raise InternalError(f"A seat told {answer.kind} where the result of row {first_row} was due.")
        faults, lengths, *outputs = answer.arrays
        tick(left)
        rows = dict(zip(fields["outputs"], outputs, strict=True))
        return Result(rows, faults, lengths, first_row)


@contextmanager
def connected(path: Path) -> Iterator[RemoteEngine]:
    """The engine of the seat that listens at a path.

    Raises
    ------
    TryAgain
        Nobody listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        with _losing():
            link.connect(str(path))
        yield RemoteEngine.over(link)


def _answer(link: socket.socket) -> Message:
    with _losing():
        message = wire.receive(link)
    if message is None:
        raise TryAgain("The model's process has closed its link.")
    if message.kind != "refused":
        return message
    told = str(message.fields["message"])
    raise TryAgain(told) if message.fields["status"] >= 500 else InputError(told)


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TryAgain(f"The model's process does not answer: {error}") from error
