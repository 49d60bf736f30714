"""Numbers in documents have the digits that numpy finds, in one layout whatever its version."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scgpt_infer.schema.digits import rows


def expected(value: np.float32) -> str:
    if not np.isfinite(value):
        return "null"
    scientific = np.format_float_scientific(value, unique=True, trim="-", exp_digits=2)
    if -4 <= int(scientific.split("e")[1]) < 6:
        return np.format_float_positional(value, unique=True, trim="0")
    return scientific


def test_every_kind_of_number_is_spelled_as_numpy_does():
    random = np.random.default_rng(0)
    powers = np.float32(2) ** np.arange(-149, 128, dtype=np.float32)
    kinds = [
        random.integers(0, 2**32, 3000, dtype=np.uint32).view(np.float32),
        random.normal(size=3000) / 22,
        random.integers(0, 2_000_000, 2000) / random.choice([1, 4, 10, 1000], 2000),
        np.log1p(random.integers(0, 3000, 1000)),
        np.concatenate([powers, np.nextafter(powers, np.float32(0)), np.nextafter(powers, np.float32(np.inf))]),
        np.array([0.0, -0.0, 0.5, 12.5, 1e6, 999_999.94, 1e-4, 9.9999e-5, 16_777_216, np.nan, np.inf]),
    ]
    values = np.concatenate([kind.astype(np.float32) for kind in kinds])
    for value, text in zip(values, rows(values[:, None]), strict=True):
        assert text == expected(value)


@given(arrays(np.float32, (3, 2), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_rows_are_json_that_brings_the_numbers_back(values):
    found = np.array([json.loads(f"[{row}]") for row in rows(values)], np.float32)
    assert found.tobytes() == values.tobytes()
