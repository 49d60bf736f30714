"""Until when a client wants its answer: `within_of` reads it from the header X-Request-Timeout-Ms."""

import math
import time

from starlette.requests import Request

from scgpt_infer.server.refusals import BadRequest, Expired

__all__ = ["HEADER", "within_of"]

HEADER = "X-Request-Timeout-Ms"


def within_of(request: Request) -> float | None:
    """Seconds from now within which the client wants its answer; None where it does not say.

    Milliseconds in the header count from the arrival of the request's head, so that what the body took is gone.

    Raises
    ------
    Expired
        The time has passed already.
    BadRequest
        The header is no number.
    """
    told = request.headers.get(HEADER)
    if told is None:
        return None
    try:
        milliseconds = float(told)
    except ValueError:
        milliseconds = math.nan
    if not math.isfinite(milliseconds):
        raise BadRequest(f"{HEADER} is {told!r}; expected milliseconds, such as 2500.")
    now = time.monotonic()
    within = milliseconds / 1000 - (now - getattr(request.state, "arrived", now))
    if within <= 0:
        raise Expired(f"The {milliseconds:g} ms that {HEADER} gives had passed before the model was asked.")
    return within
