import pytest

from scgpt_runtime.errors import BundleError
from scgpt_runtime.wire import BYTES, NUMBER, fields, number


def test_numbers_and_bytes_are_told_and_fixed_sizes_are_passed_over():
    message = b"\x08\xac\x02" + b"\x11" + bytes(8) + b"\x1a\x03abc" + b"\x25" + bytes(4)
    found = [(field, kind, bytes(part)) for field, kind, part in fields(memoryview(message))]
    assert found == [(1, NUMBER, b"\xac\x02"), (3, BYTES, b"abc")]
    assert number(memoryview(b"\xac\x02")) == 300


def test_what_is_told_can_be_written_in_place():
    message = bytearray(b"\x08\x04\x12\x02\x08\x05")
    (_, _, first), (_, _, below) = fields(memoryview(message))
    ((_, _, second),) = fields(below)
    first[0], second[0] = 6, 7
    assert message == b"\x08\x06\x12\x02\x08\x07"


@pytest.mark.parametrize(
    "broken", [b"\x1a\x05ab", b"\x11\x00", b"\x08", b"\x08\xff", b"\x0b", b"\x08" + b"\x80" * 10 + b"\x01"]
)
def test_what_is_no_message_is_refused(broken):
    with pytest.raises(BundleError, match="not an ONNX file"):
        list(fields(memoryview(broken)))
