"""Which cells teach."""

import numpy as np
import pytest

from scgpt_infer.learning.choosing import chosen
from scgpt_infer.learning.options import LearnOptions
from scgpt_infer.readers import open_cells
from scgpt_runtime.errors import OptionError


def choose(labelled, how, limit=None):
    return chosen(open_cells(labelled), "kind", how, limit)


def test_every_cell_teaches_or_is_counted(labelled):
    kinds = labelled.obs["kind"].to_numpy(object)
    kinds[:6] = ["", "unknown", "rare", "rare", "pair", "c"]
    labelled.obs["kind"] = kinds
    found = choose(labelled, LearnOptions(ignore=("pair",), exclude=(("donor", "d3"),), max_cells_per_class=50))
    assert found.left_out == {
        "no label (kind is empty or unknown)": 2,
        "label pair is ignored": 1,
        "donor is d3": 60,
        "fewer than 5 of a class": 2,
        "more than 50 of a class": 240 - 65 - 150,
    }
    assert len(found.rows) + sum(found.left_out.values()) == 240
    np.testing.assert_array_equal(found.labels, kinds[found.rows].astype(str))
    assert (np.diff(found.rows) > 0).all()


def test_a_large_class_is_thinned_evenly(labelled):
    found = choose(labelled, LearnOptions(max_cells_per_class=8, by="donor"))
    donors, counts = np.unique(found.groups, return_counts=True)
    assert donors.tolist() == ["d0", "d1", "d2", "d3"]
    assert counts.tolist() == [6, 6, 6, 6]


def test_the_first_cells_alone(labelled):
    assert choose(labelled, LearnOptions(), limit=30).rows.tolist() == list(range(30))


def test_what_is_left_of_a_class_after_bad_cells_may_be_too_few(labelled):
    found = choose(labelled, LearnOptions(max_cells_per_class=6))
    good = ~((found.labels == "a") & (np.cumsum(found.labels == "a") <= 2))
    kept = found.only(good, "no embedding", LearnOptions())
    assert set(kept.labels) == {"b", "c"}
    assert kept.left_out["no embedding"] == 2
    assert kept.left_out["fewer than 5 of a class"] == 4
    assert len(kept.rows) == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"c": 0}, "c is 0; expected a number above 0"),
        ({"c": float("nan")}, "c is nan"),
        ({"min_cells": 1}, "min_cells is 1; expected a whole number of at least 2"),
        ({"max_cells_per_class": 3}, "no class could be taught"),
    ],
)
def test_values_that_cannot_be_used(change, words):
    with pytest.raises(OptionError, match=words):
        LearnOptions(**change)
