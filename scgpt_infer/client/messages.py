"""What passes between the protocol and the wire: `Attempt` and `Pause` out, `Reply` or `NoReply` in; `Steps` of them.

Whoever asks something of a server is a generator of steps. It opens no connection and sleeps never: a driver does, one
that blocks (`blocking`) or one that awaits (`awaiting`). So both clients run the same code.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

__all__ = ["Attempt", "NoReply", "Pause", "Reply", "Request", "Steps"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """What a server is asked.

    Attributes
    ----------
    method, path
        Of HTTP; the path is below the server's address.
    query, headers
        By name.
    body
        Bytes, or a file whose bytes are streamed.
    into
        File that the body of the answer is written to; None: it is kept in memory.
    repeatable
        Whether asking twice does no harm.
    idle
        Seconds without a byte after which a transfer is given up, where its answer may take any time. None: never.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path = b""
    into: Path | None = None
    repeatable: bool = True
    idle: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that is to be sent now; `within` are the seconds that its answer may take, None: any."""

    request: Request
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered.

    Attributes
    ----------
    status
        Of HTTP.
    headers
        By name in small letters.
    body
        Empty where it went into a file.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class NoReply:
    """There was no answer.

    Attributes
    ----------
    why
        In words.
    sent
        Whether the server may have seen the request.
    lasting
        Whether it would be the same another time.
    """

    why: str
    sent: bool
    lasting: bool = False


Steps = Generator[Attempt | Pause, Reply | NoReply | None, T]
"""An attempt is answered by a `Reply` or a `NoReply`, a pause by nothing; at the end comes what was wanted."""
