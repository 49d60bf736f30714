"""JSON that should be a record: what fits becomes one, what does not is named by its place."""

from dataclasses import dataclass

import pytest

from scgpt_runtime.decode import decode
from scgpt_runtime.errors import BundleError


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner | None = None


def test_an_optional_record_is_a_record_or_nothing():
    assert decode(Outer, {"name": "a", "inner": {"size": 3}}, "x") == Outer("a", Inner(3))
    assert decode(Outer, {"name": "a", "inner": None}, "x") == Outer("a")
    assert decode(Outer, {"name": "a"}, "x") == Outer("a")


@pytest.mark.parametrize("inner", [3, "a", [], {"size": "3"}])
def test_what_is_neither_is_named(inner):
    with pytest.raises(BundleError, match=r"x\.inner"):
        decode(Outer, {"name": "a", "inner": inner}, "x")


def test_what_is_missing_is_named():
    with pytest.raises(BundleError, match="x lacks name"):
        decode(Outer, {"inner": None}, "x")
