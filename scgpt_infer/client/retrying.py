"""One request, asked until it is answered: `answered`, as far as `Patience` goes.

In: a request. Out: steps that end with an answer to it, or with an error. It knows nothing of what is asked.
"""

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count

from scgpt_infer.client.errors import (
    BrokenServerError,
    BusyError,
    DeadlineError,
    ProtocolError,
    RefusedError,
    ServerError,
    UnreachableError,
)
from scgpt_infer.client.messages import Attempt, NoReply, Pause, Reply, Request, Steps
from scgpt_runtime.errors import OptionError

__all__ = ["DEADLINE", "RETRIED", "Patience", "Retry", "answered"]

RETRIED = frozenset({429, 502, 503, 504})
"""What a server or a proxy before it says of a state that passes."""

DEADLINE = "X-Request-Timeout-Ms"
"""Header with the milliseconds after which nobody waits for the answer."""

_UNCHANGED = 304

_BUSY, _EXPIRED = 429, "expired"

_NOT_BEGUN = frozenset({429, 503})
"""What a server says that has not begun with the request."""

_LONGEST_S = 10**6
"""Seconds, 11 days: no pause that is meant is longer, and clocks have limits."""

_DOUBLED = 64
"""Times that a pause doubles: then it is longer than any that is allowed."""

_SHOWN = 300  # letters of an answer that is no message of ours

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a request is repeated, and after what time.

    A pause is what the server asks for (``Retry-After``) and, by chance, up to ``first * 2**n`` seconds more, so that
    clients that were refused together do not come back together ("full jitter": M. Brooker, Exponential Backoff And
    Jitter, AWS Architecture Blog, 2015).

    Attributes
    ----------
    attempts
        Most times that a request is sent.
    first
        Seconds that the first pause may take.
    longest
        Seconds that no pause exceeds, but where the server asks for more.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    attempts: int = 12
    first: float = 0.2
    longest: float = 20.0

    def __post_init__(self) -> None:
        if not (self.attempts >= 1 and 0 <= self.first <= _LONGEST_S and 0 <= self.longest <= _LONGEST_S):
            raise OptionError(
                f"{self!r} cannot be used; expected at least one attempt, and pauses of 0 to {_LONGEST_S:,} seconds."
            )

    def pause(self, attempt: int, asked: float, chance: float) -> float:
        """Seconds to wait after an attempt, counted from 0; `chance` is from 0 to 1."""
        return asked + chance * min(self.longest, self.first * 2.0 ** min(attempt, _DOUBLED))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer is waited for.

    Attributes
    ----------
    timeout
        Seconds for all attempts together; None: any.
    retry
        How requests are repeated.
    heeds
        Whether the time begins anew when a server says that it is full and when to come again (429), which is no
        attempt then, or that the time has passed while it had others to answer (504): so that work of many requests
        goes on for as long as it takes.
    clock
        Seconds that only grow.
    chance
        A number from 0 to 1.
    """

    timeout: float | None = None
    retry: Retry = field(default_factory=Retry)
    heeds: bool = False
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random


def answered(request: Request, patience: Patience) -> Steps[Reply]:
    """Ask until there is an answer that will not change.

    Raises
    ------
    RefusedError, BrokenServerError, ProtocolError
        The server's answer is final.
    BusyError, UnreachableError
        No attempt is left.
    DeadlineError
        No time is left.
    """
    ends, lost = _ends(patience), 0
    for attempt in count():
        left = _left(request, patience, ends)
        told = yield Attempt(request if left is None else _until(request, left), left)
        if isinstance(told, Reply) and (told.status < 300 or told.status == _UNCHANGED):
            return told
        error = _error(request, told, attempt + 1)
        full = error.status == _BUSY and isinstance(told, Reply) and "retry-after" in told.headers
        heeded = patience.heeds and (full or error.code == _EXPIRED)
        lost += not (heeded and full)
        if lost >= patience.retry.attempts or not _may_repeat(request, told):
            raise error
        pause = patience.retry.pause(attempt, _asked(told), patience.chance())
        if heeded:
            ends = _ends(patience, pause)
        elif ends is not None and patience.clock() + pause >= ends:
            raise _too_late(error, patience)
        _log.log(logging.INFO if isinstance(told, Reply) else logging.WARNING, "%s Again in %.1f s.", error, pause)
        yield Pause(pause)
    raise AssertionError  # pragma: no cover, the loop has no end


def _ends(patience: Patience, pause: float = 0.0) -> float | None:
    """When the time is over that begins after a pause."""
    return None if patience.timeout is None else patience.clock() + pause + patience.timeout


def _left(request: Request, patience: Patience, ends: float | None) -> float | None:
    """Seconds until then."""
    left = None if ends is None else ends - patience.clock()
    if left is not None and left <= 0:
        raise DeadlineError(
            f"{request.method} {request.path} was not asked: the {patience.timeout:g} s in which the answer was "
            "wanted have passed. Allow more (timeout)."
        )
    return left


def _too_late(error: ServerError, patience: Patience) -> DeadlineError:
    words = f"{error} No more attempts, as the answer was wanted within {patience.timeout:g} s: allow more (timeout)."
    late = DeadlineError(words, error.status, error.code, error.request_id)
    late.__cause__ = error
    return late


def _until(request: Request, left: float) -> Request:
    return replace(request, headers={**request.headers, DEADLINE: str(max(1, int(left * 1000)))})


def _may_repeat(request: Request, told: Reply | NoReply | None) -> bool:
    if isinstance(told, Reply):
        return told.status in RETRIED and (request.repeatable or told.status in _NOT_BEGUN)
    return isinstance(told, NoReply) and not told.lasting and (request.repeatable or not told.sent)


def _asked(told: Reply | NoReply | None) -> float:
    """Seconds that the server wants to be left alone, as RFC 9110 (10.2.3) writes them: a number or a date."""
    words = told.headers.get("retry-after", "") if isinstance(told, Reply) else ""
    if words.isascii() and words.isdigit():
        return min(float(words), _LONGEST_S)
    try:
        until = (parsedate_to_datetime(words) - datetime.now(UTC)).total_seconds()
        return min(max(0.0, until), _LONGEST_S)
    except (TypeError, ValueError):
        return 0.0


def _error(request: Request, told: Reply | NoReply | None, attempts: int) -> ServerError:
    """What an answer says that is none of those hoped for."""
    what = f"{request.method} {request.path}"
    times = "" if attempts == 1 else f", in {attempts} attempts"
    if not isinstance(told, Reply):
        why = told.why if isinstance(told, NoReply) else "nothing came"
        return UnreachableError(f"{what} got no answer{times}: {why}. Check the address, and that the server runs.")
    if told.status < 400:
        elsewhere = told.headers.get("location", "nowhere")
        return ProtocolError(
            f"{what} was answered {told.status}, which leads to {elsewhere[:_SHOWN]}. Give the client the server's own "
            "address.",
            told.status,
        )
    said, code, request_id = _said(told)
    told_id = f" (request {request_id})" if request_id else ""
    kind = BusyError if told.status in RETRIED else RefusedError if told.status < 500 else BrokenServerError
    return kind(f"{what} was answered {told.status}{told_id}{times}: {said}", told.status, code, request_id)


def _said(reply: Reply) -> tuple[str, str, str]:
    """Message, code and request id of an answer."""
    request_id = reply.headers.get("x-request-id", "")
    try:
        told = json.loads(reply.body)
        return str(told["error"]), str(told.get("code", "")), str(told.get("request_id", request_id))
    except (ValueError, TypeError, KeyError, AttributeError):
        words = " ".join(reply.body[: 4 * _SHOWN].decode("utf-8", "replace").split())
        return words[:_SHOWN] or "without a message", "", request_id
