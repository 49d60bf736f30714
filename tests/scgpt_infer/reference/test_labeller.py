"""Labels by neighbours, as the annotation task asks for them."""

import numpy as np
import pytest

from scgpt_infer.reference import ReferenceLabeller
from scgpt_infer.tasks.annotate import Labeller
from scgpt_runtime.errors import OptionError
from toy_reference import LABELS, drawn


def test_it_is_a_labeller_of_the_annotation_task(index):
    labeller: Labeller = ReferenceLabeller(index)
    assert labeller.labels == tuple(sorted(LABELS))
    assert labeller.facts["k"] == 10
    assert labeller.facts["weights"] == "majority"
    assert all(isinstance(value, (str, int, float)) for value in labeller.facts.values())


def test_the_nearest_cell_gives_its_label_when_it_is_asked_alone(index):
    codes, confidences = ReferenceLabeller(index, k=1).ranked(drawn(300), drawn(300), 3)
    np.testing.assert_array_equal(codes[:, 0], index.codes)
    assert (confidences[:, 0] == 1).all()
    assert (codes[:, 1:] == -1).all()
    assert (codes.dtype, confidences.dtype) == (np.int32, np.float32)


def test_answers_are_the_same_in_any_batch(index):
    labeller, queries = ReferenceLabeller(index, weights="distance"), drawn(70, 5)
    whole = labeller.ranked(queries, queries, 3)
    for step in (1, 13):
        parts = [labeller.ranked(queries[i : i + step], queries[i : i + step], 3) for i in range(0, 70, step)]
        for of_whole, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(of_parts), of_whole)


def test_what_is_not_allowed_is_refused(index):
    with pytest.raises(OptionError, match="at least 1"):
        ReferenceLabeller(index, k=0)
    with pytest.raises(OptionError, match="majority, distance"):
        ReferenceLabeller(index, weights="gaussian")
