"""Requests that a page of another site makes a browser send: `refuse_other_sites`.

A server without keys answers whoever reaches it, and a browser reaches what its user does: without this, any page that
a user visits could send files to a server on that user's machine, or unload its models.
"""

from collections.abc import Iterable
from typing import Final

from scgpt_infer.server.refusals import Forbidden

__all__ = ["refuse_other_sites"]

_ONLY_LOOK: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_OWN: Final = frozenset((b"same-origin", b"none"))
"""What browsers say of requests of our page and of their users (Fetch Metadata, W3C); programs say nothing."""


def refuse_other_sites(method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Make sure that no page of another origin has something done.

    Parameters
    ----------
    method
        Of the request; what only looks is let through, since browsers do not give pages the answer.
    headers
        Of the request, names in small letters.

    Raises
    ------
    Forbidden
        It came from one.
    """
    if method in _ONLY_LOOK:
        return
    for name, value in headers:
        if name == b"sec-fetch-site" and value.lower() not in _OWN:
            raise Forbidden("A page of another site made this request. Ask from a program, or from this server's page.")
