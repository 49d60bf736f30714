"""The name of a file as a client tells it: `suffix_of` checks it and tells the format. No file is ever called so."""

import unicodedata

from scgpt_infer.server.refusals import Unprocessable

__all__ = ["SUFFIXES", "suffix_of"]

SUFFIXES = (".csv", ".csv.gz", ".h5", ".h5ad", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
"""Formats of files that are taken."""

_MOST_BYTES = 200
_SHOWN = 60


def suffix_of(name: str) -> str:
    """The suffix of a name that is fit to be shown, logged, and written into headers.

    Parameters
    ----------
    name
        A file's name, without a folder.

    Raises
    ------
    Unprocessable
        It is a path, has characters that are none, is too long, or its suffix is of no format that is taken.
    """
    shown = repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise Unprocessable(f"The file is called {shown}; expected a name alone, no path, that begins with no dot.")
    if any(unicodedata.category(letter)[0] == "C" for letter in name):
        raise Unprocessable(f"The file's name {shown} has characters that cannot be shown. Rename it.")
    if len(name.encode()) > _MOST_BYTES:
        raise Unprocessable(
            f"The file's name has {len(name.encode()):,} bytes; expected at most {_MOST_BYTES}. Shorten it: {shown}."
        )
    suffix = max((known for known in SUFFIXES if name.lower().endswith(known)), key=len, default="")
    if not suffix or len(suffix) == len(name):
        raise Unprocessable(
            f"{shown} is of no format that is taken here; expected a name that ends in {', '.join(SUFFIXES)}. "
            "Convert the file, for example with scanpy."
        )
    return suffix
