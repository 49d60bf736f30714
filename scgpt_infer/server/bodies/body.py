"""What a request said, whatever the form of its body: `Body`, with the options of each task and what they may be.

In: options by name, as JSON has them or as texts of a query. It reads no bytes.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from scgpt_infer.server.asking import Cells
from scgpt_infer.server.refusals import TooLarge, Unprocessable

if TYPE_CHECKING:
    from scgpt_infer.server.genes import GeneTable  # it compiles, which those who want limits alone need not wait for

__all__ = ["MOST_CANDIDATES", "OPTIONS", "Body", "once", "options_of", "too_many_cells", "too_many_values"]

MOST_CANDIDATES: Final = 100
"""Labels that are told of a cell at the most; each is two columns of an answer."""


class Body(Protocol):
    """A body whose form has been checked, and whose genes have not been looked up yet: that takes a model."""

    @property
    def said(self) -> Mapping[str, Any]:
        """The options that it tells."""
        ...

    def cells(self, genes: "GeneTable") -> Cells:
        """Its cells.

        Raises
        ------
        Unprocessable, TooLarge
            A cell is not as it should be; the message says which.
        """
        ...


@dataclass(frozen=True, slots=True)
class Option:
    """What an option may be.

    Attributes
    ----------
    read
        Makes its value of the text of a query.
    fits
        Whether a value is allowed.
    expected
        What is allowed, in words.
    """

    read: Callable[[str], Any]
    fits: Callable[[Any], bool]
    expected: str


# Python's own take "1_0", " 3" and the digits of all scripts as well.
_WHOLE = re.compile("[0-9]{1,9}")
_NUMBER = re.compile(r"-?[0-9]{1,99}(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,9})?")


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return float(text)


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_MODEL = Option(str, lambda value: isinstance(value, str) and value != "", "the name of a model")
_ANNOTATE = {
    "top": Option(
        _whole,
        lambda value: _is_whole(value) and 1 <= value <= MOST_CANDIDATES,
        f"a whole number from 1 to {MOST_CANDIDATES}",
    ),
    "unknown_below": Option(
        _number,
        lambda value: (_is_whole(value) or isinstance(value, float)) and 0 <= value <= 1,
        "a confidence from 0 to 1",
    ),
    "with_vectors": Option(_flag, lambda value: isinstance(value, bool), "true or false"),
}
OPTIONS: Final[Mapping[str, Mapping[str, Option]]] = {
    "embed": {"model": _MODEL},
    "annotate": {"model": _MODEL, **_ANNOTATE},
}
"""The options of each task by name."""


def once(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The texts of a query by name.

    Raises
    ------
    Unprocessable
        A name stands there twice.
    """
    found: dict[str, str] = {}
    for name, text in query:
        if name in found:
            raise Unprocessable(f"The query has {name!r} twice; give it once.")
        found[name] = text
    return found


def options_of(task: str, said: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """The options that a request tells, in its body or in its query.

    Parameters
    ----------
    task
        One of `OPTIONS`.
    said
        By the body; this counts where the query says otherwise.
    query
        By name, as texts.

    Raises
    ------
    Unprocessable
        There is no such option, or it may not have this value.
    """
    known = OPTIONS[task]
    for name in (*said, *query):
        if name not in known:
            raise Unprocessable(f"{task} has no option {name!r}; it has {', '.join(known)}.")
    found = {name: _read(name, text, known[name]) for name, text in query.items()} | dict(said)
    for name, value in found.items():
        if not known[name].fits(value):
            raise Unprocessable(f"{name} is {value!r}; expected {known[name].expected}.")
    return found


def too_many_cells(most: int) -> TooLarge:
    """The refusal of a request with more cells than a server takes."""
    return TooLarge(f"The request has more than {most:,} cells, the most that this server takes. Send fewer at a time.")


def too_many_values(place: str, most: int) -> TooLarge:
    """The refusal of a cell with more values than a server takes."""
    return TooLarge(f"{place} has more than {most:,} values, the most that this server takes. Leave zeros out.")


def _read(name: str, text: str, option: Option) -> Any:
    try:
        return option.read(text)
    except (ValueError, KeyError):
        raise Unprocessable(f"{name} is {text!r}; expected {option.expected}.") from None
