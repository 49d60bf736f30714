"""Requests that wait, and whose turn it is: `FairQueue`.

Turns are shared out among clients by tokens (deficit round robin: M. Shreedhar and G. Varghese, Efficient Fair Queuing
using Deficit Round-Robin, SIGCOMM 1995), so that a client with a thousand cells does not keep one with a single cell
waiting. It is used under a lock of its owner's. It knows no model.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

import numpy as np

from scgpt_infer.server.refusals import Expired
from scgpt_infer.server.seat.request import Request, Slice

__all__ = ["FairQueue"]


@dataclass(slots=True)
class _Client:
    requests: deque[Request] = field(default_factory=deque)
    tokens: int = 0  # that wait
    credit: int = 0


class FairQueue:
    """Cells that wait for the model.

    Parameters
    ----------
    quantum
        Tokens that a client gets in each turn.

    Attributes
    ----------
    tokens, cells
        That wait.
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self.tokens = 0
        self.cells = 0

    @property
    def oldest(self) -> float | None:
        """When the request came that has waited longest; None where none waits."""
        return min((client.requests[0].arrived for client in self._clients.values()), default=None)

    def before(self, client: str, tokens: int) -> int:
        """Tokens whose turn comes before the last of so many more of a client: its own, and turn by turn of others."""
        own = self._clients[client].tokens if client in self._clients else 0
        turns = -(-(own + tokens) // self._quantum)
        others = (one.tokens for name, one in self._clients.items() if name != client)
        return own + sum(min(waiting, turns * self._quantum) for waiting in others)

    def put(self, request: Request) -> None:
        """Take a request in, behind those of its client."""
        self._clients.setdefault(request.client, _Client()).requests.append(request)
        self._count(request.client, request.tokens_left, request.tokens.n_cells - request.next)

    def remove(self, request: Request) -> None:
        """Let go of what is left of a request."""
        client = self._clients.get(request.client)
        if client is None or request not in client.requests:
            return
        client.requests.remove(request)
        self._count(request.client, -request.tokens_left, request.next - request.tokens.n_cells)
        if not client.requests:
            self._leave(request.client)

    def take(self, budget: int, now: float) -> list[Slice]:
        """Take cells out, turn by turn.

        Parameters
        ----------
        budget
            Tokens after which no further turn begins.
        now
            The time; requests whose time is over end, and are not given.
        """
        taken: list[Slice] = []
        got = 0
        while got < budget and self._clients:
            name = next(iter(self._clients))
            for piece in self._turn(name, now):
                taken.append(piece)
                got += _tokens(piece)
            if name in self._clients:
                self._clients.move_to_end(name)
        return taken

    def expire(self, now: float) -> None:
        """End the requests whose time is over."""
        late = [request for client in self._clients.values() for request in client.requests if request.expired(now)]
        for request in late:
            self.remove(request)
            _expire(request)

    def _turn(self, name: str, now: float) -> list[Slice]:
        """What a client's credit reaches for."""
        taken: list[Slice] = []
        client = self._clients[name]
        client.credit += self._quantum
        while client.requests:
            request = client.requests[0]
            if request.gone or request.expired(now):  # gone: a batch of it has failed
                self.remove(request)
                _expire(request)
                continue
            piece = self._piece(request, client.credit)
            if piece is None:
                return taken
            taken.append(piece)
            client.credit -= _tokens(piece)
            if request.next == request.tokens.n_cells:
                client.requests.popleft()
        self._leave(name)
        return taken

    def _piece(self, request: Request, credit: int) -> Slice | None:
        """The next cells of a request that a credit pays for."""
        offsets, start = request.tokens.offsets, request.next
        stop = int(np.searchsorted(offsets, offsets[start] + credit, side="right")) - 1
        if stop <= start:
            return None
        request.next = stop
        piece = Slice(request, start, stop)
        self._count(request.client, -_tokens(piece), start - stop)
        return piece

    def _count(self, name: str, tokens: int, cells: int) -> None:
        self._clients[name].tokens += tokens
        self.tokens += tokens
        self.cells += cells

    def _leave(self, name: str) -> None:
        """A client without requests keeps no credit: it would save turns up."""
        self._clients.pop(name, None)


def _tokens(piece: Slice) -> int:
    offsets = piece.request.tokens.offsets
    return int(offsets[piece.stop] - offsets[piece.start])


def _expire(request: Request) -> None:
    request.fail(Expired("The time by which the answer was wanted has passed while the cells were waiting."))
