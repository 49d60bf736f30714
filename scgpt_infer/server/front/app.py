"""All routes of a front end, behind the way in that every request takes: `app_of`.

In: a `Door`. Out: an ASGI application. It starts nothing.
"""

from ipaddress import ip_network

from starlette.routing import Router

from scgpt_infer.server.front import health, jobs, kserve, native, openapi, page, tasks, vocabulary
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.front.keys import Keys

__all__ = ["app_of"]

_GROUPS = (health, native, tasks, vocabulary, kserve, jobs, page, openapi)


def app_of(door: Door, keys: Keys | None = None) -> Entry:
    """The application.

    Parameters
    ----------
    door
        Models and settings.
    keys
        Who may ask. None: anybody.
    """
    routes = [route for group in _GROUPS for route in group.routes(door)]
    settings = door.settings
    trusted = tuple(map(ip_network, settings.trusted_proxies))
    return Entry(Router(routes, redirect_slashes=False), settings.max_requests, keys, settings.max_body_bytes, trusted)
