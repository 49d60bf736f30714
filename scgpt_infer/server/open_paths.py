"""The paths that are answered without an API key, where there are keys: `needs_key`. It knows no key."""

__all__ = ["OPEN_PATHS", "needs_key"]

OPEN_PATHS = frozenset(
    ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/openapi.json", "/favicon.ico", "/")
)
"""What probes and scrapers ask, the description, the page, which asks its user for a key."""

_OPEN_FOLDER = "/page/"
"""Files of the page."""


def needs_key(path: str) -> bool:
    """Whether a path is answered to those with a key alone, where there are keys."""
    return path not in OPEN_PATHS and not path.startswith(_OPEN_FOLDER)
