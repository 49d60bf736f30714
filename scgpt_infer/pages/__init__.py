"""HTML pages that stand alone: one file, nothing from the network, light and dark, for screen and paper.

In: a title, pieces of a body, and what they need of style and script. Out: text. It knows nothing of what is told.
"""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from importlib.resources import files

__all__ = ["document"]


def document(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """A page.

    Parameters
    ----------
    title
        Plain text.
    body
        Pieces of HTML; whatever they hold from outside is escaped already.
    style
        Rules of CSS beside those that all pages share.
    script
        Runs when the body is there. The page lets no other script run and nothing be loaded, so that even a name that
        were not escaped could do nothing.
    """
    rules = files("scgpt_infer.pages").joinpath("style.css").read_text(encoding="utf-8") + style
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'{_permitted(script)}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{rules}</style></head><body>",
            *body,
            *([f"<script>{script}</script>"] if script else []),
            "</body></html>\n",
        ]
    )


def _permitted(script: str) -> str:
    if not script:
        return ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"; script-src 'sha256-{digest}'"
