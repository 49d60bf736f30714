import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from scgpt_infer.client import (
    BrokenServerError,
    BusyError,
    DeadlineError,
    ProtocolError,
    RefusedError,
    Retry,
    UnreachableError,
)
from scgpt_infer.client.messages import Attempt, NoReply, Pause, Reply, Request
from scgpt_infer.client.retrying import DEADLINE, Patience, answered
from scgpt_runtime.errors import OptionError

ASK = Request("POST", "/v1/embed")
SUBMIT = Request("POST", "/v1/jobs", repeatable=False)
BUSY = json.dumps({"error": "Too much waits.", "code": "queue_full", "request_id": "r1"}).encode()


@dataclass
class World:
    """A server that says what it is told to, and a clock that pauses move."""

    says: list[Reply | NoReply]
    now: float = 100.0
    took: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def run(self, request: Request, timeout: float | None = None, heeds: bool = False, **retry: float) -> Reply:
        patience = Patience(timeout, Retry(**retry), heeds, clock=lambda: self.now, chance=lambda: 0.5)
        steps, told = answered(request, patience), None
        try:
            while True:
                step = steps.send(told)
                told = None
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                else:
                    self.attempts.append(step)
                    self.now += self.took
                    told = self.says.pop(0)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_passes_is_asked_again_with_growing_pauses(status):
    world = World([Reply(status)] * 3 + [Reply(200, body=b"yes")])
    assert world.run(ASK, first=1.0).body == b"yes"
    assert world.pauses == [0.5, 1.0, 2.0]


def test_a_pause_is_never_longer_than_was_allowed():
    world = World([Reply(503)] * 9 + [Reply(200)])
    world.run(ASK, first=1.0, longest=4.0)
    assert world.pauses[-1] == 2.0


def test_the_server_is_left_alone_for_as_long_as_it_asks():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    world = World([Reply(429, {"retry-after": "7"}), Reply(503, {"retry-after": later}), Reply(200)])
    world.run(ASK, first=0.0)
    assert world.pauses[0] == 7.0
    assert 50 < world.pauses[1] <= 60


@pytest.mark.parametrize("odd", ["soon", "", "-3"])
def test_a_wish_that_cannot_be_read_is_none(odd):
    world = World([Reply(429, {"retry-after": odd}), Reply(200)])
    world.run(ASK, first=1.0)
    assert world.pauses == [0.5]


@pytest.mark.parametrize(("status", "kind"), [(400, RefusedError), (422, RefusedError), (500, BrokenServerError)])
def test_what_will_not_change_is_asked_once(status, kind):
    world = World([Reply(status, body=BUSY)])
    with pytest.raises(kind, match=r"answered 422|answered 400|answered 500") as caught:
        world.run(ASK)
    assert len(world.attempts) == 1
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, "queue_full", "r1")


def test_in_the_end_the_last_answer_is_told():
    world = World([Reply(429, body=BUSY)] * 3)
    with pytest.raises(BusyError, match="in 3 attempts: Too much waits"):
        world.run(ASK, attempts=3)
    assert len(world.pauses) == 2


def test_work_of_many_requests_goes_on_for_as_long_as_a_full_server_says_when_to_come_again():
    full = Reply(429, {"retry-after": "9"}, BUSY)
    world = World([full] * 1100 + [Reply(200)])
    assert world.run(ASK, timeout=10.0, heeds=True, attempts=2).status == 200
    assert [attempt.within for attempt in world.attempts] == pytest.approx([10.0] * 1101)
    late = Reply(504, body=json.dumps({"error": "Too late.", "code": "expired"}).encode())
    world = World([late, Reply(200)], took=10.0)
    assert world.run(ASK, timeout=10.0, heeds=True).status == 200
    with pytest.raises(DeadlineError, match="within 10 s"):  # the word of a proxy
        World([Reply(504)], took=10.0).run(ASK, timeout=10.0, heeds=True)
    world = World([full, NoReply("reset", sent=True), full, Reply(503)])
    with pytest.raises(BusyError, match="answered 503, in 4 attempts"):
        world.run(ASK, heeds=True, attempts=2)
    with pytest.raises(BusyError, match="in 2 attempts"):  # a quota of a gateway, which says not when it ends
        World([Reply(429)] * 3).run(ASK, heeds=True, attempts=2)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_what_lies_elsewhere_is_told_and_is_no_answer(status):
    world = World([Reply(status, {"location": "https://cells.example/v1/jobs/1"}, b"<html>Moved</html>")])
    with pytest.raises(ProtocolError, match=rf"answered {status}, which leads to https://cells.example/v1/jobs/1\."):
        world.run(Request("DELETE", "/v1/jobs/1"))
    assert World([Reply(304)]).run(ASK).status == 304


def test_what_would_be_the_same_another_time_is_not_tried_again():
    world = World([NoReply("certificate verify failed", sent=False, lasting=True)])
    with pytest.raises(UnreachableError, match="got no answer: certificate verify failed"):
        world.run(ASK)


def test_who_waits_for_a_server_that_is_not_there_is_told(caplog):
    World([NoReply("refused", sent=False), Reply(200)]).run(ASK, first=1.0)
    assert caplog.messages == [
        "POST /v1/embed got no answer: refused. Check the address, and that the server runs. Again in 0.5 s."
    ]


def test_words_of_a_proxy_are_told_too():
    world = World([Reply(502, {"x-request-id": "p9"}, b"<html>  Bad\n Gateway</html>")])
    with pytest.raises(BusyError, match=r"502 \(request p9\): <html> Bad Gateway</html>"):
        world.run(ASK, attempts=1)


def test_a_connection_that_breaks_is_tried_again():
    world = World([NoReply("refused", sent=False), NoReply("reset", sent=True), Reply(200)])
    assert world.run(ASK).status == 200
    with pytest.raises(UnreachableError, match="in 2 attempts: refused"):
        World([NoReply("refused", sent=False)] * 2).run(ASK, attempts=2)


def test_what_does_harm_twice_is_not_repeated_once_the_server_may_have_it():
    assert World([NoReply("refused", sent=False), Reply(503), Reply(429), Reply(202)]).run(SUBMIT).status == 202
    with pytest.raises(UnreachableError, match="reset"):
        World([NoReply("reset", sent=True)]).run(SUBMIT)
    with pytest.raises(BusyError):
        World([Reply(504)]).run(SUBMIT)


def test_the_server_is_told_the_time_that_is_left():
    world = World([Reply(503), Reply(200)], took=2.0)
    world.run(ASK, timeout=10.0, first=2.0)
    assert [attempt.request.headers[DEADLINE] for attempt in world.attempts] == ["10000", "7000"]
    assert [attempt.within for attempt in world.attempts] == [10.0, 7.0]
    world = World([Reply(200)])
    world.run(ASK)
    assert DEADLINE not in world.attempts[0].request.headers


def test_what_would_come_too_late_is_not_asked():
    world = World([Reply(429, {"retry-after": "30"}, BUSY)])
    with pytest.raises(DeadlineError, match="within 10 s") as caught:
        world.run(ASK, timeout=10.0)
    assert world.pauses == []
    assert caught.value.code == "queue_full"


def test_nothing_is_asked_when_the_time_has_passed():
    world = World([Reply(200)])
    times = iter([0.0, 0.2])
    with pytest.raises(DeadlineError, match=r"was not asked: the 0.1 s"):
        next(answered(ASK, Patience(0.1, clock=lambda: next(times))))
    assert world.attempts == []


def test_no_server_can_ask_for_a_pause_that_no_clock_can_make():
    world = World([Reply(429, {"retry-after": "9" * 400}), Reply(429, {"retry-after": "\xb2"}), Reply(200)])
    world.run(ASK, first=0.0)
    assert world.pauses == [1e6, 0.0]


@pytest.mark.parametrize("odd", [{"attempts": 0}, {"first": -1.0}, {"first": float("nan")}, {"longest": float("inf")}])
def test_odd_numbers_are_refused(odd):
    with pytest.raises(OptionError, match="at least one attempt"):
        Retry(**odd)
