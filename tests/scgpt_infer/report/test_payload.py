"""What the page's script reads is what the map holds, and nothing in it is HTML."""

import base64
import json

import numpy as np

from scgpt_infer.report.colouring import GREY, Numbers, Words
from scgpt_infer.report.findings import CellMap
from scgpt_infer.report.payload import FULL, MOST_WORDS, NO_NUMBER, NO_WORD, payload

EVIL = "</script><script>alert(1)</script>&\u2028\u2029<!--"


def a_map(names, places, *colourings):
    return CellMap(list(names), np.asarray(places, np.float32), colourings, "told", len(names))


def shorts(text):
    return np.frombuffer(base64.b64decode(text), "<u2")


def codes(text):
    return np.frombuffer(base64.b64decode(text), np.uint8)


def test_every_cell_keeps_its_place_and_values():
    names = [f"cell {place}" for place in range(50)]
    places = np.random.default_rng(0).normal(size=(50, 2)) * (8, 2)
    values = np.linspace(0, 1, 50, dtype=np.float32)
    values[3] = np.nan
    label = Words.of("label", "label", ["T", "B", "", "unknown", "T"] * 10)
    read = json.loads(payload(a_map(names, places, label, Numbers.of("confidence", "confidence", values, (0, 1)))))
    rows = [names.index(name) for name in read["names"]]
    assert rows != sorted(rows)
    x, y = shorts(read["x"]).astype(float), FULL - shorts(read["y"]).astype(float)
    unit = (places[:, 0].max() - places[:, 0].min()) / FULL
    np.testing.assert_allclose(np.diff(x) * unit, np.diff(places[rows, 0]), atol=2 * unit)
    np.testing.assert_allclose(np.diff(y) * unit, np.diff(places[rows, 1]), atol=2 * unit)
    words, numbers = read["colourings"]
    told = ["" if code == NO_WORD else words["words"][code] for code in codes(words["codes"])]
    assert told == [["T", "B", "", "unknown", "T"][row % 5] for row in rows]
    assert (words["counts"], words["without"], words["tones"]) == ([20, 10, 10], 10, [0, 1, GREY])
    scaled = shorts(numbers["values"])
    assert scaled[rows.index(3)] == NO_NUMBER
    some = [place for place, row in enumerate(rows) if row != 3]
    np.testing.assert_allclose(scaled[some] / FULL, values[rows][some], atol=1 / FULL)


def test_nothing_in_it_can_end_the_element_it_lies_in():
    label = Words.of(EVIL, EVIL, [EVIL, "plain"])
    told = payload(a_map([EVIL, "two"], [[0, 0], [1, 1]], label))
    assert told.isascii()
    assert not set("<>&") & set(told)
    read = json.loads(told)
    assert EVIL in read["names"]
    assert EVIL in read["colourings"][0]["words"]


def test_rare_words_beyond_those_of_a_legend_are_one():
    texts = [f"word {place % (MOST_WORDS + 40):03}" for place in range(5 * MOST_WORDS)]
    (read,) = json.loads(payload(a_map(texts, np.zeros((len(texts), 2)), Words.of("w", "w", texts))))["colourings"]
    assert len(read["words"]) == len(read["tones"]) == MOST_WORDS
    assert read["words"][-1] == "41 others"
    assert read["tones"][-1] == GREY
    assert sum(read["counts"]) == len(texts)


def test_places_without_extent_lie_in_the_middle():
    read = json.loads(payload(a_map(["a", "b"], [[3, 3], [3, 3]])))
    assert set(shorts(read["x"]).tolist()) == {FULL // 2}
