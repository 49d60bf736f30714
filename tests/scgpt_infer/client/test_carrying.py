"""Links that cannot come about, over real sockets: who would fail again is not asked again, and is told what to do."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import httpx
import pytest

from scgpt_infer.client import AsyncClient, Client, Retry, UnreachableError
from scgpt_infer.client.carrying import no_reply

_OPENSSL = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
_SOON = Retry(attempts=3, first=0.0)


@contextmanager
def listening(tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[int]]]:
    """A server that answers every line with 400; its port, and its connections so far."""
    taken: list[int] = []

    def serve() -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = server.accept()
                taken.append(1)
                with connection, suppress(OSError):
                    link = connection if tls is None else tls.wrap_socket(connection, server_side=True)
                    link.recv(2**16)
                    link.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    link.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join(20)


def ask(way: str, url: str, **terms: Any) -> None:
    """Ask for the models."""
    if way == "blocking":
        with Client(url, retry=_SOON, **terms) as client:
            client.models()
        return

    async def run() -> None:
        async with AsyncClient(url, retry=_SOON, **terms) as client:
            await client.models()

    asyncio.run(run())


@pytest.mark.parametrize("way", ["blocking", "awaited"])
def test_a_certificate_that_nobody_trusts_is_told_at_once(tmp_path, way):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, which makes the certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run([*_OPENSSL.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with listening(tls) as (port, taken), pytest.raises(UnreachableError, match=r"CERTIFICATE_VERIFY_FAILED.*cafile="):
        ask(way, f"https://127.0.0.1:{port}")
    assert len(taken) == 1


@pytest.mark.parametrize("way", ["blocking", "awaited"])
def test_a_server_without_tls_is_told_at_once(way):
    with listening() as (port, taken), pytest.raises(UnreachableError, match="its address begins with http://"):
        ask(way, f"https://127.0.0.1:{port}")
    assert len(taken) == 1


def _refused() -> None:
    try:
        raise ConnectionRefusedError
    except OSError as error:
        raise httpx.ConnectError("refused") from error


def _refused_while_a_caller_handles_another_server() -> None:
    try:
        raise ssl.SSLCertVerificationError
    except ssl.SSLError:
        _refused()


def test_what_the_caller_was_handling_is_no_reason():
    with pytest.raises(httpx.ConnectError) as caught:
        _refused_while_a_caller_handles_another_server()
    assert not no_reply(caught.value).lasting


@pytest.mark.parametrize("way", ["blocking", "awaited"])
def test_an_answer_that_cannot_be_unpacked_is_none(way):
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    with pytest.raises(UnreachableError, match="in 3 attempts"):
        ask(way, "http://server", transport=httpx.MockTransport(handle))
