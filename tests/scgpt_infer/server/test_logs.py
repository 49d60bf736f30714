"""What a server tells: an object or a line for each record, whatever is in it."""

import io
import json
import logging
import re
import sys

import pytest

from scgpt_infer.server import logs


@pytest.fixture
def told(capsys):
    """Set up as a process is; gives what it tells from then on."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def configure(form, least="info"):
        logs.configure(form, least, "frontend-0")
        return lambda: capsys.readouterr().err

    yield configure
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)


def failed():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        return sys.exc_info()


def test_a_record_is_one_object_with_what_was_added(told):
    read = told("json")
    mark = logs.request_id.set("r-1")
    logging.getLogger("scgpt_infer.here").info("%d cells", 3, extra={"route": "/v1/embed", "path": io})
    logs.request_id.reset(mark)
    logging.getLogger("scgpt_infer.here").error("Broke\nhere.", exc_info=failed())
    first, second = map(json.loads, read().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first.pop("path") == str(io)
    assert first == {
        "level": "info",
        "process": "frontend-0",
        "logger": "scgpt_infer.here",
        "message": "3 cells",
        "request_id": "r-1",
        "route": "/v1/embed",
    }
    assert second["message"] == "Broke\nhere."
    assert "ValueError: two\nlines" in second["exception"]
    assert "request_id" not in second


def test_text_is_a_line_that_nobody_can_break(told):
    read = told("text")
    logging.getLogger("x").warning("client said %s", "a\nERROR forged\x1b[2J", extra={"request_id": "r-1", "code": ""})
    line = read()
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert "WARNING frontend-0 client said a\\nERROR forged" in line
    assert line.endswith("request_id=r-1\n")


def test_less_than_was_asked_for_is_not_told(told):
    read = told("json", "warning")
    logging.getLogger("scgpt_infer").info("no")
    assert read() == ""
    read = told("json", "debug")
    logging.getLogger("scgpt_infer").debug("yes")
    logging.getLogger("uvicorn.error").info("of others")
    assert [json.loads(line)["message"] for line in read().splitlines()] == ["yes"]
