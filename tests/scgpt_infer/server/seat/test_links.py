"""What a seat says reaches whoever asked, whatever becomes of other links."""

import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from scgpt_infer.server.seat import links as module
from scgpt_infer.server.seat.links import Links
from scgpt_infer.server.wire import Message, receive, send

ROWS = np.zeros(1 << 20)
"""More than a socket holds."""


class Echo:
    """Says what it hears; remembers who has left."""

    def __init__(self):
        self.left, self.heard, self.gate = threading.Semaphore(0), threading.Semaphore(0), threading.Event()
        self.gate.set()
        self.gone = 0

    def hear(self, asker, message):
        self.heard.release()
        assert self.gate.wait(20)
        asker.tell(Message("odd", {"id": 7, "odd": object()}) if message.kind == "odd" else message)

    def leave(self, asker):
        self.gone += 1
        self.left.release()


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def links(tmp_path, echo):
    with Links(str(tmp_path / "s"), echo) as found:
        yield found


@contextmanager
def linked(links):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(20)
        link.connect(str(links._path))
        yield link


def become_idle(links):
    until = time.monotonic() + 20
    while not links.idle:
        assert time.monotonic() < until


def test_idle_only_when_what_was_heard_is_said_and_sent(links, echo):
    assert links.idle
    with linked(links) as link:
        echo.gate.clear()
        send(link, Message("ask", {"id": 1}, (ROWS,)))
        assert echo.heard.acquire(timeout=20)
        assert not links.idle
        echo.gate.set()
        head = link.recv(1)  # it is being sent, and more than the socket holds is left
        assert not links.idle
        rest = ROWS.nbytes
        while rest > 0:
            rest -= len(link.recv(1 << 20))
        assert head
        become_idle(links)


def test_who_leaves_with_answers_under_way_holds_nothing_up(links, echo):
    with linked(links) as link:
        send(link, Message("ask", {"id": 1}, (ROWS,)))
        assert link.recv(1)
    assert echo.left.acquire(timeout=20)
    become_idle(links)
    assert not links._links


def test_an_answer_that_cannot_be_told_is_refused_and_the_next_one_is_told(links):
    with linked(links) as link:
        send(link, Message("odd"))
        send(link, Message("ask", {"id": 8}))
        refused, told = receive(link), receive(link)
    assert (refused.kind, refused.fields["id"], refused.fields["status"]) == ("refused", 7, 500)
    assert (told.kind, told.fields["id"]) == ("ask", 8)


def test_what_cannot_be_read_ends_its_own_link_alone(links, echo):
    with linked(links) as bad, linked(links) as good:
        bad.sendall(b"\x01\0\0\0" + bytes(8) + b"\xc1")  # a byte that MessagePack never has
        assert bad.recv(1) == b""
        assert echo.left.acquire(timeout=20)
        send(good, Message("ask", {"id": 1}))
        assert receive(good).fields["id"] == 1


def test_who_takes_no_answers_is_not_heard_until_it_does(links, echo, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", ROWS.nbytes - 1)
    with linked(links) as link:
        for number in range(3):
            send(link, Message("ask", {"id": number}, (ROWS if number == 0 else ROWS[:1],)))
        assert echo.heard.acquire(timeout=20)
        assert not echo.heard.acquire(timeout=0.05)
        assert [receive(link).fields["id"] for _ in range(3)] == [0, 1, 2]


def test_a_connection_that_cannot_be_had_is_not_the_last(links, monkeypatch):
    real, failed = links._listener.accept, threading.Event()

    class Fails:
        """A listener that fails once, as for want of file descriptors."""

        fileno = links._listener.fileno
        close = links._listener.close

        def accept(self):
            if not failed.is_set():
                failed.set()
                raise OSError("too many open files")
            return real()

    monkeypatch.setattr(links, "_listener", Fails())
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)
    with linked(links) as first:  # accepted by the call that was under way
        send(first, Message("ask", {"id": 1}))
        assert receive(first).fields["id"] == 1
    assert failed.wait(20)
    with linked(links) as second:
        send(second, Message("ask", {"id": 2}))
        assert receive(second).fields["id"] == 2
