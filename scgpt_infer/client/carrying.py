"""Between this package's messages and httpx's, for both kinds of connection."""

import ssl
from typing import Any

import httpx

from scgpt_infer import __version__
from scgpt_infer.client.messages import Attempt, NoReply, Reply, Request
from scgpt_infer.client.terms import Terms
from scgpt_runtime.errors import OptionError

__all__ = ["check_open", "common", "headers_of", "no_reply", "reply_of", "timeouts"]

CONNECT_S = 10.0
"""Seconds that a connection may take to come about."""

GRACE_S = 2.0
"""Seconds beyond a deadline in which the server's own word of it may arrive."""

_NO_TLS = "WRONG_VERSION_NUMBER"
"""OpenSSL's word for a first answer that is none of TLS."""

_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def common(terms: Terms) -> dict[str, Any]:
    """What both kinds of httpx client are made with."""
    headers = {"User-Agent": f"scgpt-infer/{__version__}"}
    try:
        base = httpx.URL(terms.url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise OptionError(f"The address {terms.url!r} cannot be used: {error}. Check it.") from error
    if terms.api_key is not None:
        headers["Authorization"] = f"Bearer {terms.api_key}"
    most = terms.in_flight + 1
    return {
        "base_url": base,
        "headers": headers,
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=most),
    }


def check_open(http: httpx.Client | httpx.AsyncClient) -> None:
    """Raise `OptionError` where nothing can be sent any more."""
    if http.is_closed:
        raise OptionError("The client is closed, so it can ask nothing. Make a new one.")


def headers_of(request: Request) -> dict[str, str]:
    """Headers of a request; a file is sent with its length, so that a server can refuse it before it comes."""
    if isinstance(request.body, bytes):
        return dict(request.headers)
    return {**request.headers, "Content-Length": str(request.body.stat().st_size)}


def timeouts(attempt: Attempt) -> httpx.Timeout:
    """How long each step of an attempt may take."""
    if attempt.within is None:
        return httpx.Timeout(attempt.request.idle, connect=CONNECT_S)
    return httpx.Timeout(attempt.within + GRACE_S, connect=min(CONNECT_S, attempt.within))


def reply_of(answer: httpx.Response, body: bytes) -> Reply:
    """An answer of httpx."""
    return Reply(answer.status_code, dict(answer.headers), body)


def no_reply(error: httpx.RequestError) -> NoReply:
    """Why there was no answer."""
    found = _first(error)
    why = f"{error}" or type(error).__name__
    if isinstance(found, ssl.SSLCertVerificationError):
        return NoReply(f"{why}; trust its certificate by verify=ssl.create_default_context(cafile=...)", False, True)
    if isinstance(found, ssl.SSLError) and found.reason == _NO_TLS:
        return NoReply(f"{why}; it speaks no TLS, so its address begins with http://", False, True)
    return NoReply(why, not isinstance(error, _UNSENT))


def _first(error: BaseException) -> BaseException:
    """The error of the system below those of libraries; not what the caller was handling before it."""
    while not isinstance(error, OSError) and (below := error.__cause__ or error.__context__):
        error = below
    return error
