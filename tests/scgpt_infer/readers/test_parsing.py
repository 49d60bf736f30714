import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scgpt_infer.readers.parsing import entries, table_rows
from scgpt_infer.readers.text_kernels import Wrong

digits = st.text("0123456789", min_size=1, max_size=25)
decimals = st.builds(
    lambda sign, whole, part, power: f"{sign}{whole}{part}{power}",
    st.sampled_from(["", "-", "+"]),
    digits,
    st.one_of(st.just(""), digits.map(lambda part: f".{part}")),
    st.one_of(st.just(""), st.integers(-330, 330).map(lambda power: f"e{power}")),
)
numbers = st.one_of(
    decimals,
    st.floats(allow_nan=False).map(repr),
    st.floats(width=32, allow_nan=False).map(lambda value: repr(float(value))),
    st.integers(-(10**30), 10**30).map(str),
    # Halfway between two float32, where rounding twice is not rounding once.
    st.floats(2.0**-100, 2.0**100, width=32).map(
        lambda value: f"{value + float(np.spacing(np.float32(value))) / 2:.30g}"
    ),
)


def as_float32(text: str) -> np.float32:
    with np.errstate(over="ignore"):
        return np.array(float(text)).astype(np.float32)[()]


@given(st.lists(numbers, min_size=1, max_size=8))
@example(["1e400", "-1e400", "1e-400", "123456789012345678901234567890e-40", "0.000000000000000000001", "16777217"])
@example([".5", "5.", "-0", "1E5", "1e+5", "00012", "9007199254740993"])
def test_a_number_is_what_python_reads_as_float32(texts: list[str]):
    rows = table_rows(f"cell,{','.join(texts)}\n".encode(), len(texts), b",")
    assert rows.fault is None
    found = np.zeros(len(texts), np.float32)
    found[rows.columns] = rows.values
    assert found.tolist() == [as_float32(text) for text in texts]
    lines = "".join(f"1 {i + 1} {text}\n" for i, text in enumerate(texts))
    assert entries(lines.encode(), (1, len(texts)), True).values.tolist() == [as_float32(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["x", "-", "+", ".", "e5", "1e", "1e+", "1.2.3", "1 2", "0x10", "1_000", "--1", '"1', '1"', "tru"]
)
def test_what_is_no_number_is_none(text: str):
    fault = table_rows(f"a,0,1\nb,2,3\n\nc,4,{text}\n".encode(), 2, b",").fault
    assert (fault.wrong, fault.line, fault.begin, fault.column) == (Wrong.NO_NUMBER, 3, 13, 1)


@pytest.mark.parametrize(
    ("line", "wrong", "column"),
    [
        ("c,1", Wrong.TOO_FEW, 1),
        ("c", Wrong.TOO_FEW, 0),
        ("c,1,2,3", Wrong.TOO_MANY, 2),
        ("c,1,", Wrong.EMPTY, 1),
        ("c,,1", Wrong.EMPTY, 0),
        ("c, ,1", Wrong.EMPTY, 0),
        ('"c,1,2', Wrong.OPEN_QUOTE, 0),
    ],
)
def test_a_line_that_is_not_as_the_others_is_told_with_its_place(line: str, wrong: Wrong, column: int):
    rows = table_rows(f"a,0,1\nb,2,3\n{line}\nd,0,0\n".encode(), 2, b",")
    assert (rows.fault.wrong, rows.fault.line, rows.fault.begin, rows.fault.column) == (wrong, 2, 12, column)
    assert rows.counts.tolist() == [1, 2]  # what stood before it was read


@pytest.mark.parametrize("word", ["NA", "na", "NaN", "nan", "NAN"])
def test_missing_values_are_nan(word: str):
    assert np.isnan(table_rows(f"a,{word},0\n".encode(), 2, b",").values).tolist() == [True]


def test_zeros_are_left_out_whatever_they_look_like():
    rows = table_rows(b"a,0,0.0,-0,0e5,1e-300,00,1\n", 7, b",")
    assert (rows.columns.tolist(), rows.values.tolist(), rows.counts.tolist()) == ([6], [1.0], [1])


def test_entries_may_be_spaced_and_commented():
    part = entries(b"%one\n 1\t2   3 \r\n\n  % two\n2 1 -4.5e0\n", (2, 2), True)
    assert part.fault is None
    assert (part.rows.tolist(), part.columns.tolist(), part.values.tolist()) == ([0, 1], [1, 0], [3.0, -4.5])
    assert entries(b"2 2\n1 1\n", (2, 2), False).values.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("1 1", Wrong.TOO_FEW),
        ("1", Wrong.TOO_FEW),
        ("1 x 1", Wrong.NO_NUMBER),
        ("1.0 1 1", Wrong.NO_NUMBER),
        ("1 1 1 1", Wrong.NO_NUMBER),
        ("1 1 one", Wrong.NO_NUMBER),
        ("-1 1 1", Wrong.NO_NUMBER),
        ("0 1 1", Wrong.OUTSIDE),
        ("1 0 1", Wrong.OUTSIDE),
        ("3 1 1", Wrong.OUTSIDE),
        ("1 4 1", Wrong.OUTSIDE),
        ("18446744073709551617 1 1", Wrong.OUTSIDE),
    ],
)
def test_an_entry_that_is_none_is_told_with_its_line(line: str, wrong: Wrong):
    part = entries(f"1 1 1\n2 3 1\n\n{line}\n1 1 1\n".encode(), (2, 3), True)
    assert (part.fault.wrong, part.fault.line, part.fault.begin) == (wrong, 3, 13)
    assert part.values.tolist() == [1.0, 1.0]
