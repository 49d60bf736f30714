"""Whether an Arrow IPC stream is whole, and what in it may become far larger than its bytes when it is read.

In: bytes. Out: `Growth`, or nothing. pyarrow tells neither of a message, so the flatbuffer of each is looked into, as
the format's description (Columnar.rst, Message.fbs) lays it out. It reads no array.
"""

import struct
from enum import Enum
from typing import Final

import pyarrow as pa

__all__ = ["Growth", "growth"]

_U8, _U16, _I32, _U32 = (struct.Struct(code) for code in ("<B", "<H", "<i", "<I"))

_HEADER_KIND, _HEADER = 1, 2  # fields of a Message
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # kinds of header
_DATA, _IS_DELTA = 1, 2  # fields of a DictionaryBatch: its RecordBatch, and whether that goes behind the one before
_COMPRESSION: Final = 3  # field of a RecordBatch

_ENDS: Final = (b"\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\0")  # the mark of an end, and as it was before Arrow 0.15


class Growth(Enum):
    """What becomes large."""

    COMPRESSED = "compressed buffers"
    """They may inflate to any size."""

    DELTA = "a dictionary that is added to"
    """Each batch then has a copy of all words so far."""


def growth(body: bytes) -> Growth | None:
    """The first thing in a stream that may become far larger than its bytes.

    Raises
    ------
    pyarrow.ArrowException, OSError, ValueError
        It is no stream, or not one alone with its mark of an end: what lies behind that mark would never be read,
        and a stream without it may have been cut between two batches.
    """
    source = pa.BufferReader(body)
    found, end = None, 0
    for message in pa.ipc.MessageReader.open_stream(source):
        found = found or _growth(bytes(message.metadata))
        end = source.tell()
    rest = body[end:]
    if rest not in _ENDS and rest.startswith(_ENDS):
        raise ValueError("something lies behind its end; send one stream alone")
    if rest not in _ENDS:
        raise ValueError("it has no mark of its end, so that rows may be missing; close its writer")
    return found


def _growth(text: bytes) -> Growth | None:
    try:
        message = _U32.unpack_from(text, 0)[0]
        kind = _field(text, message, _HEADER_KIND)
        header = _field(text, message, _HEADER)
        if not kind or not header or _U8.unpack_from(text, kind)[0] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            return None
        batch = _followed(text, header)
        if _U8.unpack_from(text, kind)[0] == _DICTIONARY_BATCH:
            is_delta, data = _field(text, batch, _IS_DELTA), _field(text, batch, _DATA)
            if is_delta and _U8.unpack_from(text, is_delta)[0]:
                return Growth.DELTA
            if not data:
                return None
            batch = _followed(text, data)
        return Growth.COMPRESSED if _field(text, batch, _COMPRESSION) else None
    except struct.error:
        raise ValueError("a message ends inside of its head") from None


def _field(text: bytes, table: int, number: int) -> int:
    """Where a field of a table lies; 0 where it is left out."""
    fields = table - _I32.unpack_from(text, table)[0]
    place = 4 + 2 * number
    if place >= _U16.unpack_from(text, fields)[0]:
        return 0
    offset: int = _U16.unpack_from(text, fields + place)[0]
    return table + offset if offset else 0


def _followed(text: bytes, place: int) -> int:
    """What an offset at a place leads to."""
    offset: int = _U32.unpack_from(text, place)[0]
    return place + offset
