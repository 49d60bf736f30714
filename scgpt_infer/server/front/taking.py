"""How far a client is with what it is sent: `progress`, as the transport and the kernel count it.

Transports alone do not know: that of TLS gives all it has to the one below it, and that one gives all it can to the
kernel. It knows no HTTP.
"""

import asyncio
import fcntl
import socket
import struct
import termios
from dataclasses import dataclass
from typing import Final

__all__ = ["Progress", "progress"]

_INT = struct.Struct("i")
_LONG = struct.Struct("Q")
_ACKNOWLEDGED: Final = 120
"""Where tcpi_bytes_acked stands in Linux's tcp_info (linux/tcp.h), since 4.2."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a client is; two that are equal mean that it has taken nothing between them.

    Attributes
    ----------
    left
        Bytes that the client's machine has not taken, as far as they are known: 0 where it has all.
    taken
        Bytes that it has; 0 where the kernel does not say.
    """

    left: int
    taken: int


def progress(transport: asyncio.Transport) -> Progress:
    """How far the client at the other end of a transport is."""
    link = transport.get_extra_info("socket")
    left = transport.get_write_buffer_size()
    try:
        left += _INT.unpack(fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
        told = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED + _LONG.size)
        return Progress(left, _LONG.unpack_from(told, _ACKNOWLEDGED)[0])
    except (OSError, AttributeError, struct.error):  # closed meanwhile, or a system that does not say
        return Progress(left, 0)
