"""Who asks, where proxies stand between: `client_of`, by the X-Forwarded-For of proxies that are trusted.

uvicorn's own reading of it takes what is no address for a name, and knows no IPv4 proxy on an IPv6 socket. It knows no
request.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["Network", "client_of"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_HEADER = b"x-forwarded-for"


def client_of(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """The address of a client.

    Each proxy adds on the right whom it was asked by. So the header is believed from right to left, as long as the
    entry before was a trusted proxy's: what stands further left, the client may have written itself. ``Forwarded`` (RFC
    7239) is not read, since most proxies hand on what a client wrote there.

    Parameters
    ----------
    peer
        Address of the other end of the connection.
    headers
        Of the request, names in small letters.
    trusted
        Where proxies are that may be believed.

    Returns
    -------
    str
        The first address from the right that is no trusted proxy's; where an entry is no address, the proxy that has
        written it.
    """
    client = _address(peer) if trusted else None
    if client is None or not _is_in(client, trusted):
        return peer
    told = b",".join(value for name, value in headers if name == _HEADER).decode("latin-1")
    for entry in reversed(told.split(",")):
        found = _address(entry)
        if found is None:
            break
        client = found
        if not _is_in(client, trusted):
            break
    return str(client)


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _address(entry: str) -> Address | None:
    """The address of an entry, which may have a port: ``1.2.3.4:80``, ``[2001:db8::1]:80``."""
    text = entry.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
