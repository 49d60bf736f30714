"""Whom a request counts for behind proxies, and that nobody can name himself."""

from ipaddress import ip_network

import pytest

from scgpt_infer.server.front.forwarded import client_of

TRUSTED = [ip_network(one) for one in ("10.0.0.0/8", "192.0.2.7", "fd00::/8")]
CLIENT, OTHER = "203.0.113.5", "198.51.100.9"


def asked(peer, *told, trusted=TRUSTED):
    return client_of(
        peer, [(b"host", b"here"), *((b"x-forwarded-for", one.encode("latin-1")) for one in told)], trusted
    )


def test_a_trusted_proxy_tells_its_client():
    assert asked("10.0.0.1", CLIENT) == CLIENT
    assert asked("192.0.2.7", f" {CLIENT}\t") == CLIENT
    assert asked("fd00::1", "2001:DB8::0:5") == "2001:db8::5"


def test_nobody_else_does():
    assert asked(CLIENT, OTHER) == CLIENT
    assert asked("192.0.2.8", OTHER) == "192.0.2.8"
    assert asked("10.0.0.1", OTHER, trusted=[]) == "10.0.0.1"
    assert asked("", OTHER) == ""
    assert client_of("10.0.0.1", [(b"forwarded", b"for=198.51.100.9")], TRUSTED) == "10.0.0.1"


@pytest.mark.parametrize("own", ["127.0.0.1", "10.0.0.9", "lab", f"{OTHER}, 10.1.1.1", "," * 1000, "\xff\x85\n"])
def test_what_a_client_writes_itself_counts_for_nothing(own):
    assert asked("10.0.0.1", f"{own}, {CLIENT}") == CLIENT
    assert asked("10.0.0.1", own, CLIENT) == CLIENT  # a second header is the first one, continued
    assert asked("10.0.0.1", f"{own}, {CLIENT}, 10.2.3.4") == CLIENT  # through two proxies


def test_who_asks_from_the_trusted_networks_is_the_furthest_of_them():
    assert asked("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"
    assert asked("10.0.0.1") == "10.0.0.1"


@pytest.mark.parametrize(
    "entry", [f"{CLIENT}:4711", f"[::ffff:{CLIENT}]:80", f"[::ffff:{CLIENT}]", f"::ffff:{CLIENT}", f"{CLIENT}:x"]
)
def test_ports_and_other_ways_to_write_an_address(entry):
    assert asked("10.0.0.1", entry) == CLIENT


def test_an_address_of_ipv6_with_its_port():
    assert asked("10.0.0.1", "[2001:db8::5]:443") == "2001:db8::5"


def test_a_proxy_of_ipv4_on_a_socket_of_ipv6():
    assert asked("::ffff:10.0.0.1", CLIENT) == CLIENT
    assert asked(f"::ffff:{CLIENT}", OTHER) == f"::ffff:{CLIENT}"


@pytest.mark.parametrize("rubbish", ["", "unknown", "_hidden", "lab", "1.2.3", "[", "[]:1", "1" * 60_000, "::1::", "%"])
def test_what_is_no_address_is_the_proxy_that_wrote_it(rubbish):
    assert asked("10.0.0.1", f"{OTHER}, {rubbish}") == "10.0.0.1"
    assert asked("10.0.0.1", f"{OTHER}, {rubbish}, 10.2.3.4") == "10.2.3.4"
