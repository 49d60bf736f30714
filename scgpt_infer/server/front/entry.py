"""The way in of every request: `Entry`, around the routes, as pure ASGI.

It gives a request its id and its client, asks for a key, keeps within the limit of requests, tells every error in one
form, and counts, logs and traces what came of it. It knows no route.
"""

import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scgpt_infer.server import metrics, tracing
from scgpt_infer.server.front.forwarded import Network, client_of
from scgpt_infer.server.front.keys import Keys, shown_key
from scgpt_infer.server.front.limits import Limits, Stay
from scgpt_infer.server.front.refusing import refusal_for, told
from scgpt_infer.server.front.sites import refuse_other_sites
from scgpt_infer.server.logs import request_id
from scgpt_infer.server.open_paths import OPEN_PATHS, needs_key
from scgpt_infer.server.refusals import Refusal, Unauthorised

__all__ = ["GONE", "Entry"]

_log = logging.getLogger(__name__)

GONE = 499
"""Status under which a request is counted whose client left; nobody is told it. As nginx has it."""
_ERROR = 500
_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Entry:
    """What a front end serves.

    Parameters
    ----------
    app
        The routes: a `starlette.routing.Router`, without handlers of errors.
    most
        Requests that are worked on at a time.
    keys
        Who may ask. None: anybody.
    max_body_bytes
        Of one request: what the memory for all bodies is measured by.
    trusted
        Where proxies are that say who asks.

    Attributes
    ----------
    closing
        Whether connections are closed after their answers, since this server is about to end.

    Notes
    -----
    Routes find in ``request.state``: ``request_id``; ``client``, the name of the key or the client's address, whom
    turns in the queue are counted for; ``arrived``, by `time.monotonic`; ``stay``, a `Stay`, unless it is a probe. They
    may set ``model``, to a name that is served.
    """

    def __init__(
        self,
        app: ASGIApp,
        most: int,
        keys: Keys | None = None,
        max_body_bytes: int = 0,
        trusted: Sequence[Network] = (),
    ) -> None:
        self.closing = False
        self._app = app
        self._keys = keys
        self._trusted = trusted
        self._limits = Limits(most, max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = headers.get("x-request-id", "")
        visit = _Visit(asked if _ID.fullmatch(asked) else secrets.token_hex(16), send, self.closing)
        client = client_of((scope.get("client") or ("",))[0], scope["headers"], self._trusted)
        scope.setdefault("state", {}).update(request_id=visit.id, arrived=visit.began, client=client)
        scope["app"] = self  # with one, Starlette's router raises its 404 and 405, where they get our form
        mark = request_id.set(visit.id)
        try:
            with tracing.request(scope["method"], headers) as note:
                await self._answer(scope, receive, visit)
                note(_route(scope), visit.status, {"request_id": visit.id, "client": scope["state"]["client"]})
        finally:
            request_id.reset(mark)

    async def _answer(self, scope: Scope, receive: Receive, visit: "_Visit") -> None:
        """Have a request answered, whatever comes of it, and count it."""
        counted = scope["path"] not in OPEN_PATHS
        stay = None
        metrics.in_flight(counted)
        try:
            self._admit(scope)
            if counted:
                client, method = scope["state"]["client"], scope["method"]
                stay = scope["state"]["stay"] = Stay(self._limits, client, method in _WITH_BODY)
            await self._app(scope, receive, visit.send)
        except ClientDisconnect:
            visit.status = visit.status or GONE
        except Exception as error:
            await visit.fail(error, scope)
        finally:
            seconds = time.monotonic() - visit.began
            if stay is not None:
                stay.leave(seconds)
            metrics.in_flight(-counted)
            self._count(scope, visit, seconds, counted)

    def _admit(self, scope: Scope) -> None:
        """Find out who asks, and refuse those who may not."""
        refuse_other_sites(scope["method"], scope["headers"])
        if self._keys is None or not needs_key(scope["path"]):
            return
        key = shown_key(scope["headers"])
        name = None if key is None else self._keys.name_of(key)
        if name is None:
            found = "none came with this request" if key is None else "the one that came is not known here"
            raise Unauthorised(f"This server asks for an API key, and {found}. Send Authorization: Bearer KEY.")
        scope["state"]["client"] = name

    def _count(self, scope: Scope, visit: "_Visit", seconds: float, counted: bool) -> None:
        """Metrics and a line of the log."""
        route, method = _route(scope), scope["method"]
        metrics.request(route, method, visit.status, seconds)
        model = scope["state"].get("model", "")
        if visit.refused:
            metrics.refused(model, visit.refused)
        level = logging.INFO if counted else logging.DEBUG
        if _log.isEnabledFor(level):
            facts = {
                "method": method,
                "path": scope.get("raw_path", b"").decode("latin-1"),  # as it was sent: without line breaks
                "route": route,
                "status": visit.status,
                "seconds": round(seconds, 6),
                "client": scope["state"]["client"],
                "model": model,
                "code": visit.refused,
                "bytes": visit.size,
            }
            _log.log(level, "Answered.", extra=facts)


class _Visit:
    """A request on its way: what it is called, and what has been answered."""

    def __init__(self, name: str, send: Send, closing: bool) -> None:
        self.id = name
        self.began = time.monotonic()
        self.status = 0
        self.refused = ""
        self.size = 0
        self._send = send
        self._headers = [(b"x-request-id", name.encode()), (b"x-content-type-options", b"nosniff")]
        if closing:
            self._headers.append((b"connection", b"close"))

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)

    async def fail(self, error: Exception, scope: Mapping[str, Any]) -> None:
        """Tell that there is no answer, or, where it has begun, let the connection break."""
        refusal, headers = refusal_for(error, scope["path"])
        self.refused = refusal.code
        if refusal.status >= _ERROR and not isinstance(error, Refusal):
            _log.error("%s", error, exc_info=error)
        if self.status:
            raise error  # the front end's server closes the connection: half an answer must not look like a whole one
        status, more, body = told(refusal, self.id)
        await self.send({"type": "http.response.start", "status": status, "headers": more + headers})
        await self.send({"type": "http.response.body", "body": body})


def _route(scope: Scope) -> str:
    """Pattern of the route that a request was for; paths that nobody serves share one name."""
    return getattr(scope.get("route"), "path", "none")
