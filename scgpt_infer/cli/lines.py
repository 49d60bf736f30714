"""Names as one line each: those of labels and cells are the user's, and may hold anything."""

__all__ = ["short"]

LONGEST = 60
"""Letters of a name that are shown; --json has all."""


def short(name: str) -> str:
    """A name on one line; some ontologies have names of hundreds of letters."""
    line = " ".join(name.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
