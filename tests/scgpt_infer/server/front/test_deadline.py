import time

import pytest
from starlette.requests import Request

from scgpt_infer.server.front.deadline import within_of
from scgpt_infer.server.refusals import BadRequest, Expired


def request_of(told: str | None, *, seconds_ago: float = 0.0) -> Request:
    headers = [] if told is None else [(b"x-request-timeout-ms", told.encode())]
    state = {"arrived": time.monotonic() - seconds_ago}
    return Request({"type": "http", "method": "POST", "headers": headers, "state": state})


def test_milliseconds_count_from_the_arrival() -> None:
    assert within_of(request_of("2500")) == pytest.approx(2.5, abs=0.1)
    assert within_of(request_of("2500", seconds_ago=2)) == pytest.approx(0.5, abs=0.1)


def test_who_does_not_say_has_time() -> None:
    assert within_of(request_of(None)) is None


@pytest.mark.parametrize(("told", "ago"), [("0", 0), ("-5", 0), ("100", 1)])
def test_a_time_that_has_passed_is_told_so(told: str, ago: float) -> None:
    with pytest.raises(Expired, match="had passed"):
        within_of(request_of(told, seconds_ago=ago))


@pytest.mark.parametrize("told", ["soon", "nan", "inf", ""])
def test_a_time_that_is_no_number(told: str) -> None:
    with pytest.raises(BadRequest, match="X-Request-Timeout-Ms"):
        within_of(request_of(told))
