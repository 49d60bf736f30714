"""A text file by lines: plain or gzip-compressed, as it lies there, and never whole in memory.

A path comes in; lines and blocks of whole lines go out, as bytes. What is no text, no UTF-8 or cut short is told as an
error with its remedy. It knows nothing of what the lines mean.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from scgpt_infer.sizes import size
from scgpt_runtime.errors import CellsError

__all__ = ["Lines"]

# What is read at once.
BLOCK_BYTES = 8 << 20
# No line of a text file is longer; ten million cells side by side take a fifth of it.
LINE_BYTES = 1 << 30
HEAD_BYTES = 4096
GZIP = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"
BINARY = {
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip file, which an Excel workbook is too",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF file",
}
PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head")


class Lines:
    """The lines of a text file, from the first to the last.

    Parameters
    ----------
    path
        The file; whether it is compressed is told by its first bytes.
    expected
        What it should be, in messages.

    Attributes
    ----------
    number
        Lines that were given out.

    Raises
    ------
    CellsError
        If it cannot be opened, is empty, or is no UTF-8 text; from all methods, if it is damaged.
    """

    def __init__(self, path: Path, expected: str) -> None:
        self.path, self.number = path, 0
        self._expected = expected
        self._file = _open(path, expected)
        self._rest, self._at_end = b"", False
        try:
            self._rest = self._read().removeprefix(UTF8_MARK)
            self._check_head(self._rest[:HEAD_BYTES])
        except BaseException:
            self.close()
            raise

    def peek(self) -> bytes | None:
        """The next line that is not blank, without its end; None after the last one. The blank ones are taken."""
        while True:
            while b"\n" not in self._rest and not self._at_end:
                self._more()
            line, end, rest = self._rest.partition(b"\n")
            if line.strip():
                return line.removesuffix(b"\r")
            if not end:
                return None
            self._rest = rest
            self.number += 1

    def take(self) -> bytes | None:
        """The next line that is not blank, which is done with then."""
        line = self.peek()
        if line is not None:
            self._rest = self._rest.partition(b"\n")[2]
            self.number += 1
        return line

    def blocks(self) -> Iterator[bytes]:
        """Everything that was not taken, as blocks of whole lines; the last line has an end in any case.

        `number` grows when the next block is asked for.
        """
        while self._rest or not self._at_end:
            cut = self._rest.rfind(b"\n") + 1
            if not cut and not self._at_end:
                self._more()
                continue
            block = self._rest[:cut] if cut else self._rest + b"\n"
            self._rest = self._rest[cut:] if cut else b""
            yield block
            self.number += block.count(b"\n")

    def text(self, part: bytes, block: bytes = b"", begin: int = 0) -> str:
        """A part of a line as text.

        Parameters
        ----------
        part
            The part; of the line that was taken last, if no block is given.
        block, begin
            The block it is of, and where in it it begins.
        """
        try:
            return part.decode("utf-8")
        except UnicodeDecodeError as error:
            number = self.number + (block.count(b"\n", 0, begin + error.start) + 1 if block else 0)
            raise CellsError(
                f"Line {number:,} of {self.path} is not UTF-8: it holds the byte 0x{part[error.start]:02X}, so it is "
                "probably Latin-1. Convert it to UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8."
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _more(self) -> None:
        if len(self._rest) > LINE_BYTES:
            raise CellsError(
                f"Line {self.number + 1:,} of {self.path} does not end within {size(LINE_BYTES)}; expected "
                f"{self._expected}. Check what the file is."
            )
        self._rest += self._read()

    def _read(self) -> bytes:
        try:
            block = self._file.read(BLOCK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise CellsError(
                f"{self.path} is cut short or damaged after line {self.number:,}: {error}. Copy or download it again."
            ) from error
        self._at_end = not block
        return block

    def _check_head(self, head: bytes) -> None:
        if not head.strip():
            raise CellsError(f"{self.path} is empty; expected {self._expected}. Copy or download it again.")
        if what := _not_text(head):
            raise CellsError(f"{self.path} is {what}; expected {self._expected}.")


def _open(path: Path, expected: str) -> IO[bytes] | gzip.GzipFile:
    try:
        with path.open("rb") as stream:
            head = stream.read(len(GZIP))
        return gzip.open(path, "rb") if head == GZIP else path.open("rb")
    except OSError as error:
        raise CellsError(
            f"{path} cannot be opened: {error.strerror}; expected {expected}. Check the path and its permissions."
        ) from error


def _not_text(head: bytes) -> str:
    """What a file is that begins so, with the remedy; nothing if it may be text."""
    if head.lstrip().lower().startswith(PAGE):
        return "a web page, probably the message of a failed download: download it again"
    for begin, what in BINARY.items():
        if head.startswith(begin):
            return f"{what}: unpack or convert it, or give it the suffix of what it is"
    few, many = sorted(
        (head[0::2].count(0), head[1::2].count(0))
    )  # text of most languages has a zero in each character
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (not few and 4 * many > len(head)):
        return "UTF-16 text: convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8"
    if 0 in head:
        return "no text (it holds zero bytes): check what it is"
    if b"\r" in head.rstrip() and b"\n" not in head:
        return "text whose lines end in carriage returns alone: convert it, for example with tr '\\r' '\\n'"
    return ""
