"""What a column becomes: words in a useful order, or numbers on a scale."""

import numpy as np

from scgpt_infer.report.colouring import GREY, TONES, Numbers, Words, colouring, tones


def test_words_come_by_frequency_and_unknown_comes_last():
    words = Words.of("label", "label", ["unknown"] * 3 + ["B", "T", "T", "", "A"])
    assert words.words == ("T", "A", "B", "unknown")
    assert words.counts == [2, 1, 1, 3]
    assert words.codes.tolist() == [3, 3, 3, 2, 0, 0, -1, 1]


def test_many_different_numbers_are_a_scale_and_few_are_words():
    found = colouring("n", "n", [str(value) for value in range(100)] + ["", "inf"])
    assert isinstance(found, Numbers)
    assert (found.low, found.high) == (0, 99)
    assert np.isnan(found.values[-2:]).all()
    assert isinstance(colouring("leiden", "leiden", [str(value % 9) for value in range(100)]), Words)
    assert isinstance(colouring("name", "name", [f"cell {value}" for value in range(100)]), Words)


def test_a_column_without_a_value_is_words_without_a_word():
    found = colouring("empty", "empty", ["", ""])
    assert isinstance(found, Words)
    assert found.words == ()
    assert found.counts == []


def test_colours_repeat_after_the_last_and_unknown_takes_none():
    found = tones([*(f"type {place}" for place in range(TONES + 1)), "unknown"])
    assert found == [*range(TONES), 0, GREY]
