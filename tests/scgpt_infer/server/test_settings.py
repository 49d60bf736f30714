"""Settings that no server could keep are refused when they are made."""

import re
import threading
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_runtime.errors import OptionError

DEMO = (ModelAsked("demo", "demo"),)
NUMBERS = [one.name for one in fields(Settings) if isinstance(one.default, float)]


@pytest.mark.parametrize("found", [float("inf"), float("nan"), -1.0, 1e18])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_time_that_nobody_can_wait_for_is_refused(name, found):
    told = rf"^{name} is {re.escape(repr(found))}; expected a number of (milli)?seconds from 0 to"
    with pytest.raises(OptionError, match=told):
        Settings(models=DEMO, **{name: found})


def test_all_times_are_checked():
    assert set(NUMBERS) >= {"max_wait_ms", "queue_seconds", "drain_seconds", "grace_seconds", "job_ttl", "idle_seconds"}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_time_of_nothing_and_the_longest_are_taken(name):
    longest = 60_000 if name == "max_wait_ms" else 1e9
    for found in (0, longest):
        assert getattr(Settings(models=DEMO, **{name: found}), name) == found
    assert longest < threading.TIMEOUT_MAX


@pytest.mark.parametrize("found", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example", "*", "", "::1::"])
def test_a_proxy_that_is_no_network_is_refused(found):
    with pytest.raises(OptionError, match=rf"^A trusted proxy is {re.escape(repr(found))}: .* such as 10\.0\.0\.0/8"):
        Settings(models=DEMO, trusted_proxies=("fd00::/8", found))


def test_all_settings_are_heard_as_they_were_told():
    told = Settings(models=DEMO, trusted_proxies=("10.0.0.0/8", "::1"), keys_file=Path("keys"), grace_seconds=1.5)
    assert Settings.heard(msgspec.msgpack.decode(msgspec.msgpack.encode(told.told()))) == told
