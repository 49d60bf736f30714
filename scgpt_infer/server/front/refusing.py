"""How a refusal is told: `told` makes status, headers and body of it.

Every error of this server has this form, whichever protocol it belongs to.
"""

import http
import json
import math

from starlette.exceptions import HTTPException

from scgpt_infer.server.refusals import Refusal, refusal_of

__all__ = ["Headers", "refusal_for", "told"]

Headers = list[tuple[bytes, bytes]]


def told(refusal: Refusal, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the answer to a request that is refused."""
    told = {"error": str(refusal), "code": refusal.code, "request_id": request_id}
    body = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(refusal.retry_after))))
    if refusal.status == http.HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))  # RFC 9110, 15.5.2 wants it
    return refusal.status, headers, body


def refusal_for(error: Exception, path: str) -> tuple[Refusal, Headers]:
    """The refusal that tells of an error, and the headers that belong to it, such as Allow."""
    if not isinstance(error, HTTPException):
        return refusal_of(error), []
    words = {404: f"There is nothing at {path}.", 405: f"{path} does not take this method; Allow names those it takes."}
    refusal = Refusal(words.get(error.status_code, error.detail))
    refusal.status, refusal.code = error.status_code, http.HTTPStatus(error.status_code).name.lower()
    return refusal, [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
