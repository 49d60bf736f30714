"""Why a request is not answered, as HTTP tells it: `Refusal` and its kinds, and the `Refusal` of any other error.

A refusal's body is ``{"error": "what was found, expected, what to do", "code": "queue_full", "request_id": "..."}``.
"""

from scgpt_runtime.errors import InputError, ScgptInferError

__all__ = [
    "BadRequest",
    "Broken",
    "Conflict",
    "Expired",
    "Forbidden",
    "NoRoom",
    "NotAcceptable",
    "NotFound",
    "NotReady",
    "QueueFull",
    "Refusal",
    "TooLarge",
    "TooSlow",
    "Unauthorised",
    "Unprocessable",
    "UnsupportedMedia",
    "refusal_of",
]


class Refusal(ScgptInferError):  # noqa: N818 - an answer of its own kind, and no failure of the server
    """A request that is not answered.

    Attributes
    ----------
    status
        Of HTTP.
    code
        A word for programs.
    retry_after
        Seconds after which it may be tried again. None: to try again is of no use, or nobody knows when.
    """

    status: int = 500
    code: str = "internal"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadRequest(Refusal):
    """The request is not of the form that the protocol asks for."""

    status, code = 400, "bad_request"


class Unauthorised(Refusal):
    """No API key, or one that nobody has."""

    status, code = 401, "unauthorised"


class Forbidden(Refusal):
    """What is asked for is not allowed here."""

    status, code = 403, "forbidden"


class NotFound(Refusal):
    """There is no such model, job or page."""

    status, code = 404, "not_found"


class NotAcceptable(Refusal):
    """The answer cannot be given in any form that the client takes."""

    status, code = 406, "not_acceptable"


class TooSlow(Refusal):
    """The client did not send its request in time."""

    status, code = 408, "too_slow"


class Conflict(Refusal):
    """What is asked for cannot be done in the state that things are in."""

    status, code = 409, "conflict"


class TooLarge(Refusal):
    """The request is above a limit of this server."""

    status, code = 413, "too_large"


class UnsupportedMedia(Refusal):
    """A body of a kind that is not read here."""

    status, code = 415, "unsupported_media"


class Unprocessable(Refusal):
    """The body is of the right kind, and says what cannot be."""

    status, code = 422, "unprocessable"


class QueueFull(Refusal):
    """More waits already than can be answered soon."""

    status, code = 429, "queue_full"


class Broken(Refusal):
    """Our fault."""

    status, code = 500, "internal"


class NotReady(Refusal):
    """The model is being loaded, or the server is about to end."""

    status, code = 503, "not_ready"


class Expired(Refusal):
    """The answer would come after the time by which it was wanted."""

    status, code = 504, "expired"


class NoRoom(Refusal):
    """The disk, or the room that jobs may take on it, is full."""

    status, code = 507, "no_room"


def refusal_of(error: Exception) -> Refusal:
    """The refusal that tells of an error."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InputError):
        return Unprocessable(str(error))
    if isinstance(error, ScgptInferError):
        return Broken(str(error))
    return Broken("Something failed that should not. The server's log has it under this request's id.")
