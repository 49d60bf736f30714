"""Slow and broken clients of a real socket: each is told what is wrong, or left, in time, and costs others nothing."""

import asyncio
import select
import socket

import httpx
import pytest

from scgpt_infer.server.front import listening, patience
from tests.scgpt_infer.server.front.listened import MANY, SHORT, exchange, parts_of, post, run


def test_a_head_that_does_not_end_is_told_so_and_a_silent_client_is_left():
    async def story(port):
        status, told = parts_of(await exchange(port, b"POST /size HTTP/1.1\r\nHo"))
        assert (status, told["code"]) == (408, "too_slow")
        assert await exchange(port) == b""

    run(story)


def test_a_head_without_end_is_refused_before_it_takes_memory():
    async def story(port):
        status, told = parts_of(await exchange(port, b"GET / HTTP/1.1\r\n", b"X-Long: " + b"a" * 70_000))
        assert (status, told["code"]) == (431, "head_too_large")

    run(story, header_seconds=20)


def test_what_is_not_http_is_told_so():
    async def story(port):
        status, told = parts_of(await exchange(port, b"\x16\x03\x01 no HTTP\r\n\r\n"))
        assert (status, told["code"]) == (400, "bad_request")

    run(story)


def test_a_body_that_does_not_come_is_told_so_and_the_connection_is_closed():
    async def story(port):
        status, told = parts_of(await exchange(port, post(10) + b"half"))
        assert (status, told["code"]) == (408, "too_slow")

    run(story)


def test_bodies_that_do_not_come_take_no_place_of_those_that_do():
    async def story(port):
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]  # of a server with 8 places
        for _, writer in slow:
            writer.write(post(10) + b"h")
            await writer.drain()
        assert (await exchange(port, post(3, "Connection: close") + b"abc")).endswith(b"3")
        reader, writer = slow[0]
        writer.write(b"123456789")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        for _, writer in slow:
            writer.close()

    run(story, body_seconds=20)


def test_who_sends_too_much_sees_the_answer_and_may_go_on_or_is_left():
    async def story(port):
        status, told = parts_of(await exchange(port, post(2000) + bytes(100)))
        assert (status, told["code"]) == (413, "too_large")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/size", content=bytes(500_000))).status_code == 413
            assert (await client.post("/size", content=bytes(3))).json() == 3

    run(story)


def test_requests_one_after_another_on_one_connection_each_have_their_time():
    async def story(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(post(3) + b"abc")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(1) == b"3"
        writer.write(post(3)[:20])
        status, _ = parts_of(await reader.read())
        assert status == 408
        writer.close()

    run(story)


def test_a_head_that_began_before_the_last_answer_has_its_time_too():
    async def story(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")
        await asyncio.sleep(SHORT)
        writer.write(b"GET /sl")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"o")
        status, told = parts_of(await reader.read())
        assert (status, told["code"]) == (408, "too_slow")
        writer.close()

    run(story)


def test_connections_beyond_the_limit_are_closed_and_make_room_when_others_end(monkeypatch):
    monkeypatch.setattr(listening, "_MOST", 1)

    async def story(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(3) + b"abc")
        assert await reader.readuntil(b"3") != b""
        with pytest.raises(ConnectionResetError):
            await exchange(port, post(3) + b"abc")
        writer.write(post(3, "Connection: close") + b"abc")
        assert (await reader.read()).endswith(b"3")
        writer.close()
        assert (await exchange(port, post(3, "Connection: close") + b"abc")).endswith(b"3")

    run(story, header_seconds=20)


def test_two_requests_sent_at_once_are_answered_in_order():
    async def story(port):
        answer = await exchange(port, post(3) + b"abc" + post(1, "Connection: close") + b"a")
        assert [part[:12] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200 OK\r\ndate"] * 2
        assert answer.endswith(b"1")

    run(story)


def test_a_client_that_takes_nothing_of_its_answer_is_left():
    async def story(port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /much HTTP/1.1\r\nHost: here\r\n\r\n")
            left = select.poll()
            left.register(client, 0)  # told of the connection's end alone, with all of the answer unread
            assert await asyncio.to_thread(left.poll, 20_000)

    run(story)


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it():
    async def story(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**18)
        writer.write(b"GET /much HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        size = 0
        while piece := await reader.read(2**20):
            size += len(piece)
        assert size == MANY
        writer.close()

    run(story, body_seconds=2)


IN_CHUNKS = b"POST /heads HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
ALL_CHUNKS = IN_CHUNKS + b"3\r\nabc\r\n0\r\n"


@pytest.mark.parametrize("endless", [b"x: y\r\n" * 4000, b"a" * 20_000])
def test_what_stands_behind_a_body_without_end_is_refused_before_it_takes_memory(endless):
    async def story(port):
        status, told = parts_of(await exchange(port, ALL_CHUNKS + b"Long: ", *[endless] * 10))
        assert (status, told["code"]) == (431, "head_too_large")

    run(story, header_seconds=20, body_seconds=20)


def test_what_stands_behind_a_body_does_not_pass_for_a_header():
    async def story(port):
        _, told = parts_of(await exchange(port, ALL_CHUNKS + b"X-Api-Key: stolen\r\n\r\n"))
        assert told == ["host", "transfer-encoding", "connection"]

    run(story, header_seconds=20, body_seconds=20)


def test_a_body_in_the_smallest_pieces_is_read():
    async def story(port):
        chunks = b"1\r\na\r\n" * 20_000
        answer = await exchange(port, IN_CHUNKS.replace(b"heads", b"size") + chunks, b"0\r\n\r\n")
        assert answer.endswith(b"20000")

    run(story, max_body_bytes=30_000, header_seconds=20, body_seconds=20)


@pytest.mark.parametrize("apart", [False, True])
def test_a_client_that_offers_another_protocol_is_answered_in_this_one_with_its_body(apart):
    """Java's HttpClient offers HTTP/2 with its first request, whatever it sends."""
    head = post(3, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")

    async def story(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head if apart else head + b"abc" + post(2) + b"ab")
        if apart:
            await asyncio.sleep(SHORT)  # read alone; where it is not, what is tested is the other case
            writer.write(b"abc" + post(2) + b"ab")
        for length in (b"3", b"2"):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(1) == length
        writer.close()

    run(story, header_seconds=20, body_seconds=20)


def test_a_tunnel_is_not_given():
    async def story(port):
        status, told = parts_of(await exchange(port, b"CONNECT here:443 HTTP/1.1\r\nHost: here\r\n\r\n"))
        assert (status, told["code"]) == (400, "bad_request")

    run(story, header_seconds=20)


@pytest.mark.parametrize(("ahead", "answers"), [(patience._PIPELINED, patience._PIPELINED + 1), (4000, 0)])
def test_requests_ahead_of_their_answers_are_few(ahead, answers):
    async def story(port):
        last = post(1, "Connection: close") + b"a"
        try:
            answered = await exchange(port, (post(3) + b"abc") * ahead + last)
        except ConnectionResetError:
            answered = b""
        assert answered.count(b"HTTP/1.1 200") == answers

    run(story, header_seconds=20)
