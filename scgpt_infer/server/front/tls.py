"""TLS of a front end: `Certificate`, files in, a context of `ssl` out.

A renewed certificate takes the old one's place; connections that are open keep theirs. It knows no HTTP.
"""

import logging
import ssl
from pathlib import Path

from scgpt_infer.server.settings import Settings
from scgpt_runtime.errors import OptionError

__all__ = ["Certificate", "certificate_of"]

_Stamp = tuple[int, int, int]

_log = logging.getLogger(__name__)


class Certificate:
    """A certificate and its key, which may be exchanged while they are used.

    Parameters
    ----------
    cert, key
        Files, PEM: the certificate and its chain, and the private key without a password.

    Attributes
    ----------
    context
        For a server, TLS 1.2 or later; each handshake is given the certificate that was read last.

    Raises
    ------
    OptionError
        The files cannot be read, or do not belong together.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._seen = self._read = self._stamps()
        self._now = self.context = _context(cert, key)
        self.context.sni_callback = self._choose  # is asked in every handshake, whether it names a host or not

    def reload(self) -> None:
        """Read the files again. Where they cannot be used the certificate stays as it is, and the log tells why."""
        self._seen = self._read = self._stamps()
        try:
            # A new context: one holds a certificate for each kind of key, so that an old one could stay beside the new.
            self._now = _context(self._cert, self._key)
        except OptionError as error:
            _log.error("The certificate stays as it was. %s", error)
        else:
            _log.info("The certificate was read again.")

    async def look(self) -> None:
        """Read the files again if they are others, and were the same when this was called before: two files are not
        exchanged at once.
        """
        before, self._seen = self._seen, self._stamps()
        if self._seen != self._read and self._seen == before:
            self.reload()

    def _stamps(self) -> tuple[_Stamp | None, ...]:
        return tuple(map(_stamp, (self._cert, self._key)))

    def _choose(self, link: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        link.context = self._now


def certificate_of(settings: Settings) -> Certificate | None:
    """The certificate that settings name, if any.

    Raises
    ------
    OptionError
        It cannot be used.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a callback OpenSSL asks at the terminal for the password of a key that has one.
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"TLS cannot be had with the certificate {cert} and the key {key}: {error}. Both are PEM files, the key "
            "has no password, and the certificate is the first of its chain."
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def _stamp(path: Path) -> _Stamp | None:
    """What changes when a file is written or exchanged; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
