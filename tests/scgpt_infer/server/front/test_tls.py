"""TLS on a real socket: which certificate is given, and how long clients may take to begin and to end it."""

import asyncio
import logging
import os
import shutil
import socket
import ssl
import subprocess
import time

import httpx
import pytest
import uvloop

from scgpt_infer.server.front.tls import certificate_of
from scgpt_runtime.errors import OptionError
from tests.scgpt_infer.server.front.listened import MANY, SHORT, exchange, run, served, settings_of

MADE = "openssl req -x509 -newkey {kind} -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
KINDS = {"ec": "ec -pkeyopt ec_paramgen_curve:P-256", "rsa": "rsa:2048"}


def made(folder, kind="ec"):
    """A certificate of its own and its key, at the same names each time."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [*MADE.format(kind=KINDS[kind]).split(), "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, which makes the certificate")
    return made(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def renewed(certificate, tmp_path):
    """A certificate, and another one in a folder beside it, of another kind of key."""
    folder, other = tmp_path / "now", tmp_path / "then"
    folder.mkdir()
    other.mkdir()
    for file in certificate:
        shutil.copy(file, folder)
    return [folder / file.name for file in certificate], made(other, "rsa")


def given(port):
    """The certificate of a new connection."""
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=20)


def test_tls_is_of_today_and_spoken_with_the_certificate(certificate):
    cert, key = certificate

    async def story(port):
        trusted = ssl.create_default_context(cafile=str(cert))
        async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trusted) as client:
            assert (await client.post("/size", content=b"abc")).json() == 3

    assert certificate_of(settings_of(tls_cert=cert, tls_key=key)).context.minimum_version is ssl.TLSVersion.TLSv1_2
    run(story, tls_cert=cert, tls_key=key, header_seconds=5, body_seconds=5)


def test_files_that_do_not_belong_together_are_told(certificate, tmp_path):
    cert, key = certificate
    other = tmp_path / "other.pem"
    other.write_text("no key")
    with pytest.raises(OptionError, match=r"other\.pem"):
        certificate_of(settings_of(tls_cert=cert, tls_key=other))
    locked = tmp_path / "locked.pem"
    subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked], check=True)
    with pytest.raises(OptionError, match="has a password"):
        certificate_of(settings_of(tls_cert=cert, tls_key=locked))


def test_a_renewed_certificate_is_given_from_then_on_and_a_broken_one_is_not(renewed, caplog):
    (cert, key), (next_cert, next_key) = renewed
    first, second = cert.read_text(), next_cert.read_text()

    async def story():
        async with served(tls_cert=cert, tls_key=key, header_seconds=20) as (server, port):
            assert await asyncio.to_thread(given, port) == first
            shutil.copy(next_cert, cert)  # its key is not there yet
            server.certificate.reload()
            assert await asyncio.to_thread(given, port) == first
            shutil.copy(next_key, key)
            server.certificate.reload()
            assert await asyncio.to_thread(given, port) == second
            key.unlink()
            server.certificate.reload()
            assert await asyncio.to_thread(given, port) == second

    with caplog.at_level(logging.INFO, "scgpt_infer.server"):
        uvloop.run(story())
    told = [(line.levelname, line.getMessage()[:31]) for line in caplog.records if line.name.endswith("tls")]
    stays, read = ("ERROR", "The certificate stays as it was"), ("INFO", "The certificate was read again.")
    assert told == [stays, read, stays]


def test_files_that_are_exchanged_are_seen_when_they_are_whole(renewed, caplog):
    (cert, key), (next_cert, next_key) = renewed
    found = certificate_of(settings_of(tls_cert=cert, tls_key=key))

    def looked():
        asyncio.run(found.look())
        return [line.levelname for line in caplog.records]

    with caplog.at_level(logging.INFO, "scgpt_infer.server"):
        assert looked() == looked() == []
        os.replace(next_cert, cert)
        assert looked() == []
        os.replace(next_key, key)
        assert looked() == []  # it may go on
        assert looked() == looked() == ["INFO"]
        key.write_text("half a k")
        assert looked() == ["INFO"]
        assert looked() == looked() == ["INFO", "ERROR"]  # once


def test_a_client_that_says_nothing_is_left_before_tls_is_agreed_on(certificate):
    cert, key = certificate

    async def story(port):
        for sent in ((), (b"\x16\x03\x01\x02",)):
            assert await exchange(port, *sent) == b""

    run(story, tls_cert=cert, tls_key=key)


def test_a_server_ends_though_a_client_with_a_pool_does_not_say_goodbye(certificate):
    cert, key = certificate

    async def story():
        async with served(tls_cert=cert, tls_key=key, header_seconds=20, body_seconds=20) as (server, port):
            link = await asyncio.to_thread(answered, cert, port)
            server.should_exit = True
            began = time.monotonic()
        assert time.monotonic() - began < 15  # of 30, after which uvicorn gives up, and those who wait for it too
        link.close()

    uvloop.run(story())


def answered(cert, port):
    """A connection that has had an answer, and is kept."""
    trusted = ssl.create_default_context(cafile=str(cert))
    link = trusted.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname="127.0.0.1")
    link.sendall(b"GET /nothing HTTP/1.1\r\nHost: here\r\n\r\n")
    head = link.recv(10_000)
    assert head.startswith(b"HTTP/1.1 404")
    return link


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(certificate):
    cert, key = certificate

    async def story(port):
        trusted = ssl.create_default_context(cafile=str(cert))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**18, ssl=trusted)
        writer.write(b"GET /much HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        size = 0
        while piece := await reader.read(2**21):
            size += len(piece)
            await asyncio.sleep(SHORT / 4)
        assert size == MANY
        writer.close()

    run(story, tls_cert=cert, tls_key=key, header_seconds=20, body_seconds=SHORT * 15)
