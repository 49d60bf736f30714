"""What a client may be told of its server."""

import pytest

from scgpt_infer.client import AsyncClient, Client
from scgpt_runtime.errors import OptionError


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"url": "localhost:8080"}, "http://localhost:8080"),
        ({"in_flight": 0}, "in_flight is 0"),
        ({"in_flight": 2.5}, "in_flight is 2.5"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": 1e-6}, "timeout is 1e-06; expected 0.001 to"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"api_key": "a\nb"}, "API key"),
        ({"api_key": ""}, "API key is empty"),
        ({"url": "http://server?model=demo"}, "query or a fragment"),
        ({"url": "http://server/#top"}, "query or a fragment"),
        ({"url": "http://server/v1"}, r"ends in /v1, which the client adds itself.*own: http://server\."),
        ({"url": "http://server/below/v2/"}, r"ends in /v2.*own: http://server/below\."),
        ({"url": "http://server:http"}, "http://localhost:8080"),
        ({"url": "http://[::1"}, "http://localhost:8080"),
        ({"url": "http://:80"}, "http://localhost:8080"),
        ({"url": "http://ser ver"}, "http://localhost:8080"),
        ({"url": "http://\N{SNOWMAN}\N{COMBINING ENCLOSING KEYCAP}"}, "cannot be used"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_odd_terms_are_refused(terms, words, kind):
    with pytest.raises(OptionError, match=words):
        kind(**{"url": "http://server", **terms})


@pytest.mark.parametrize("url", ["http://user:secret@server", "http://user:secret@server/v1?x", "ftp://a:secret@b"])
def test_a_password_in_an_address_is_refused_and_not_told(url):
    with pytest.raises(OptionError, match="http") as caught:
        Client(url)
    assert "secret" not in str(caught.value)
