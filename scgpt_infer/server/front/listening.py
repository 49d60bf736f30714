"""How a front end listens: `Server`, uvicorn's with limits that it does not let be set.

In: an ASGI application and the settings. It knows nothing of either's meaning.
"""

import asyncio
import math
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from scgpt_infer.server.front.patience import Patience, patient
from scgpt_infer.server.front.tls import Certificate, certificate_of
from scgpt_infer.server.settings import Settings

__all__ = ["Server"]

_MOST = 10_000
"""Connections of one front end; each has some 10 kB, whatever it does."""
_OTHER_FILES = 128
"""That a front end has open beside its connections, and to spare."""
_HANDSHAKE_SECONDS = 5.0
"""For TLS to be agreed on, if a head does not have less; no connection counts before that."""
_AT_LEAST = 1e-3
_ENDING_SECONDS = 3600.0
"""For TLS to be ended, with all that is still to be sent. `Patient` ends connections whose clients take none of it."""
_LOOK_SECONDS = 10
"""Between two looks at the files of the certificate."""


class Server(uvicorn.Server):
    """A server for one process, which leaves signals to the supervisor.

    Forwarded addresses are not uvicorn's to believe: `scgpt_infer.server.front.forwarded` reads them.

    Parameters
    ----------
    app
        ASGI application.
    settings
        Of the server.

    Attributes
    ----------
    certificate
        None: no TLS.

    Raises
    ------
    OptionError
        The certificate or its key cannot be used.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.certificate = certificate_of(settings)
        self._handshake_seconds = max(min(settings.header_seconds, _HANDSHAKE_SECONDS), _AT_LEAST)
        super().__init__(_config(app, settings, self.certificate))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on sockets; uvicorn itself would give handshakes a minute, and answers that are on their way 30 s."""
        await super().startup(sockets=[])
        tls: dict[str, Any] = {}
        if self.certificate is not None:
            tls = {
                "ssl": self.certificate.context,
                "ssl_handshake_timeout": self._handshake_seconds,
                "ssl_shutdown_timeout": _ENDING_SECONDS,
            }
        loop = asyncio.get_running_loop()
        for one in sockets or ():
            self.servers.append(await loop.create_server(self._protocol, sock=one, backlog=self.config.backlog, **tls))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield

    def _protocol(self) -> asyncio.Protocol:
        made: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = made(self.config, self.server_state, self.lifespan.state)
        return protocol


def _config(app: ASGIApp, settings: Settings, certificate: Certificate | None) -> uvicorn.Config:
    patience = Patience(settings.header_seconds, settings.body_seconds, _connections())
    config = uvicorn.Config(
        app,
        http=patient(patience),
        ws="none",
        interface="asgi3",
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(settings.idle_seconds),
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
        callback_notify=None if certificate is None else certificate.look,
        timeout_notify=_LOOK_SECONDS,
    )
    config.load()
    return config


def _connections() -> int:
    """How many connections this process can have, when it may open as many files as the system lets it."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST + _OTHER_FILES
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return max(1, wanted - _OTHER_FILES)
