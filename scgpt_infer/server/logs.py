"""What a server tells of its doing, a line each on standard error: as JSON, or as text for people.

`configure` sets a process up; whoever logs with ``extra`` adds fields. It knows the request that a task works on
(`request_id`), nothing else of requests.
"""

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

from scgpt_infer.server.settings import LogFormat

__all__ = ["configure", "request_id"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that this task works on."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""What every record of `logging` has, so that the rest is what someone added."""
_LOUD = ("uvicorn", "asyncio", "numba", "matplotlib", "h5py", "urllib3", "opentelemetry")
"""Packages that tell more than an operator asked of this server, below a warning."""
_BREAKS = str.maketrans({"\n": "\\n", "\r": "\\r", "\x1b": "\\x1b"})


def configure(form: LogFormat, level: str, process: str) -> None:
    """Have this process tell what it does, on standard error.

    Parameters
    ----------
    form
        ``json``: an object a line; ``text``: for people.
    level
        Least that is told: debug, info, warning or error.
    process
        Name of this process, such as ``frontend-0``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(process) if form == "json" else _Text(process))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    for name in _LOUD:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


class _Json(logging.Formatter):
    """A record as one object: time, level, process, request_id, logger, message, what was added, exception."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := _request(record):
            told["request_id"] = request
        told |= _added(record)
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class _Text(logging.Formatter):
    """A record as one line, and its traceback below."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        facts = {name: value for name, value in _added(record).items() if value not in ("", None)}
        if request := _request(record):
            facts["request_id"] = request
        words = "".join(f" {name}={value}" for name, value in facts.items())
        line = f"{_time(record)} {record.levelname:<7} {self._process:<10} {record.getMessage()}{words}"
        line = line.translate(_BREAKS)  # what a client sends must not look like a line of its own
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, UTC, milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _request(record: logging.LogRecord) -> str:
    return str(vars(record).get("request_id") or request_id.get())


def _added(record: logging.LogRecord) -> dict[str, Any]:
    """What whoever logged has told beside the message; names with an underscore are those of libraries' own."""
    told = vars(record).items()
    return {name: value for name, value in told if name not in _OWN and name != "request_id" and name[0] != "_"}
