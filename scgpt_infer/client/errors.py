"""What can go wrong between a client and a server, as a branch of the tree of `scgpt_runtime.errors`.

ScgptInferError
└── ServerError                what a server said, or that it said nothing
    ├── RefusedError                it will not do that, however often it is asked (4xx)
    ├── BusyError                   it could not yet, in all attempts (429, 502, 503, 504)
    ├── UnreachableError            it did not answer, in all attempts
    ├── DeadlineError               the time that an answer was given has passed
    ├── BrokenServerError           something of its own broke (500 and above)
    ├── ModelExchangedError         another model of the same name answered on the way
    ├── ProtocolError               what answered is no server of scgpt-infer, or another version of it
    └── JobFailedError              a job ended without its results
"""

from scgpt_runtime.errors import ScgptInferError

__all__ = [
    "BrokenServerError",
    "BusyError",
    "DeadlineError",
    "JobFailedError",
    "ModelExchangedError",
    "ProtocolError",
    "RefusedError",
    "ServerError",
    "UnreachableError",
]


class ServerError(ScgptInferError):
    """A server has not done what it was asked.

    Attributes
    ----------
    status
        Of HTTP; 0 where there was no answer.
    code
        The server's word for programs, such as ``queue_full``; empty where it gave none.
    request_id
        By which the server's log knows the request; empty where it gave none.
    """

    exit_code = 3

    def __init__(self, message: str, status: int = 0, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id


class RefusedError(ServerError):
    """The server refused the request; the same request will be refused again."""

    exit_code = 2


class BusyError(ServerError):
    """The server had no room or no model ready, in all attempts."""


class UnreachableError(ServerError):
    """The server could not be reached, or the connection broke, in all attempts."""


class DeadlineError(ServerError):
    """The answer did not come in the time that the client gave it."""


class BrokenServerError(ServerError):
    """Something of the server's own broke."""


class ModelExchangedError(ServerError):
    """A model was loaded anew while cells were on their way, so their vectors could not be compared."""


class ProtocolError(ServerError):
    """The answer is not what a server of this version says."""


class JobFailedError(ServerError):
    """A job failed, or was cancelled, and has no results."""
