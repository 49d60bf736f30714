"""Settings as protobuf's text format, in which Triton reads them.

In: mappings, lists, strings, numbers and `Word`s. Out: text. It knows no message by name: who reads it judges.
Format: https://protobuf.dev/reference/protobuf/textformat-spec/
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Word", "entries", "text"]


@dataclass(frozen=True, slots=True)
class Word:
    """A name of an enumeration, which is written without quotes."""

    name: str


def text(message: Mapping[str, object]) -> str:
    """A message as text.

    Parameters
    ----------
    message
        Field to value. A mapping is a message of its own; a list is a repeated field, one entry after the other.
    """
    return "".join(f"{line}\n" for line in _lines(message, ""))


def _lines(message: Mapping[str, object], indent: str) -> Iterator[str]:
    for field, told in message.items():
        for value in told if isinstance(told, list) else [told]:
            if isinstance(value, Mapping):
                yield f"{indent}{field} {{"
                yield from _lines(value, indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{field}: {_scalar(value)}"


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return value.name
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise TypeError(f"{value!r} has no place in a message")


def entries(pairs: Mapping[str, object]) -> list[Mapping[str, object]]:
    """A map field: entries of a key and a value."""
    return [{"key": key, "value": value} for key, value in pairs.items()]
