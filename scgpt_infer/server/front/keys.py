"""API keys: a file of them in, the name of whoever shows one out.

Keys are kept and compared as digests, all of them each time: how long it takes says nothing of a key.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from scgpt_runtime.errors import OptionError

__all__ = ["Keys", "shown_key"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEY = re.compile(r"[\x21-\x7e]+")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_SEALED = "sha256:"


class Keys:
    """The keys of a file: lines ``name:key`` or ``name:sha256:HEX``, blank ones, and comments that begin with #.

    Parameters
    ----------
    path
        The file. A name may have several keys, so that one can take another's place.

    Raises
    ------
    OptionError
        The file cannot be read, or a line is not of this form; no key is told.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _known(path)

    def reload(self) -> None:
        """Read the file again. Where it cannot be read the keys stay as they are, and the log tells why."""
        try:
            self._known = _known(self._path)
        except OptionError as error:
            _log.error("The API keys stay as they were. %s", error)
        else:
            _log.info("%d API keys were read again.", len(self._known))

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None: nobody's."""
        digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
        found = None
        for name, known in self._known:  # to the end, whether it was found or not
            if hmac.compare_digest(digest, known):
                found = name
        return found


def shown_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key that a request shows, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``; None: it shows none."""
    shown = None
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            shown = value[7:].decode("latin-1").strip()
    return shown


def _known(path: Path) -> tuple[tuple[str, bytes], ...]:
    """Names and digests of keys."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"The API keys {path} cannot be read: {error}.") from error
    known: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, digest = _entry(path, number, line.strip())
        if known.setdefault(digest, name) != name:
            raise OptionError(f"{path}, line {number}: {name} and {known[digest]} have one key. Give each its own.")
    if not known:
        raise OptionError(f"{path} has no API key, so nobody could ask. Write lines like name:key into it.")
    return tuple((name, digest) for digest, name in known.items())


def _entry(path: Path, number: int, line: str) -> tuple[str, bytes]:
    name, _, key = line.partition(":")
    if not _NAME.fullmatch(name) or not _KEY.fullmatch(key):
        raise OptionError(
            f"{path}, line {number} is not name:key or name:sha256:HEX. A name has letters, digits and . _ -, a key "
            "has printable characters without blanks."
        )
    if not key.startswith(_SEALED):
        return name, hashlib.sha256(key.encode()).digest()
    if not _DIGEST.fullmatch(key[len(_SEALED) :]):
        raise OptionError(f"{path}, line {number}: expected 64 hexadecimal digits after sha256:, as sha256sum prints.")
    return name, bytes.fromhex(key[len(_SEALED) :])
