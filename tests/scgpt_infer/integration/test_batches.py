"""The batch of each cell: names, maps, fallbacks, and the original's rule."""

import numpy as np
import pytest

from scgpt_infer.integration import IntegrateOptions
from scgpt_infer.integration.batches import MINIBATCH, label_cells, of_first
from scgpt_runtime.errors import BundleError, CellsError, OptionError

KNOWN = ("day1", "day2", "day3")
COLUMN = IntegrateOptions("day")


def cells(*names: str) -> np.ndarray:
    return np.array(names, str)


def test_a_cell_gets_the_number_of_its_batch_and_a_missing_one_none():
    found = label_cells(cells("day3", "", "day1", "day3"), KNOWN, COLUMN)
    assert found.labels.tolist() == [2, -1, 0, 2]
    assert found.labels.dtype == np.int32
    assert found.counts == {"day1": 1, "day3": 2}
    assert (found.by_fallback, found.of_others) == (0, 0)


def test_other_names_are_mapped_and_the_record_says_so():
    how = IntegrateOptions("day", batch_map={"Monday": "day1"})
    found = label_cells(cells("Monday", "day1", "day2"), KNOWN, how)
    assert found.labels.tolist() == [0, 0, 1]
    assert found.facts["batch_map"] == "Monday=day1"
    assert found.facts["batch_column"] == "day"


def test_unknown_batches_are_named_counted_and_the_known_ones_and_the_way_out_are_offered():
    with pytest.raises(CellsError) as error:
        label_cells(cells("day1", "lane7", "lane7", "lane8"), KNOWN, COLUMN, "the model m")
    for told in (
        "lane7 (2 cells)",
        "lane8 (1 cells)",
        "the model m",
        "day1, day2, day3",
        "--batch-fallback",
        "--batch-map",
    ):
        assert told in str(error.value)


def test_the_fallback_serves_unknown_and_missing_batches_and_they_are_counted():
    found = label_cells(cells("day1", "lane7", ""), KNOWN, IntegrateOptions("day", batch_fallback="day3"))
    assert found.labels.tolist() == [0, 2, 2]
    assert found.by_fallback == found.facts["n_by_fallback"] == 2
    assert found.facts["batch_fallback"] == "day3"


@pytest.mark.parametrize(
    ("how", "error", "told"),
    [
        (IntegrateOptions("day", batch_fallback="day9"), OptionError, "'day9' is no batch of"),
        (IntegrateOptions("day", batch_map={"x": "day9"}), OptionError, "leads to day9"),
        (COLUMN, CellsError, "No cell has a batch"),
    ],
)
def test_what_cannot_be_meant_is_refused(how, error, told):
    with pytest.raises(error, match=told):
        label_cells(cells("", ""), KNOWN, how)


def test_a_model_that_does_not_name_its_batches_is_refused_with_the_remedy():
    with pytest.raises(BundleError, match="--batches"):
        label_cells(cells("day1"), (), COLUMN)


def test_first_gives_each_minibatch_of_sorted_cells_the_batch_of_its_first_cell():
    labels = np.array([1] * 40 + [0] * 100 + [2] * 10 + [-1] * 3, np.int32)
    given = of_first(labels)
    assert given[40:140].tolist() == [0] * 100  # sorted, the first hundred are of batch 0
    # 36 places of the second minibatch are taken by batch 0, so 28 of batch 1 have its statistics
    assert np.bincount(given[:40]).tolist() == [28, 12]
    assert given[:40].tolist() == [0] * 28 + [1] * 12  # in the order of the file
    assert given[140:150].tolist() == [1] * 10
    assert given[150:].tolist() == [-1] * 3
    assert MINIBATCH == 64


def test_first_is_recorded_with_the_cells_that_it_moves():
    names = cells(*["day1"] * 70, *["day2"] * 5)
    found = label_cells(names, KNOWN, IntegrateOptions("day", batch_statistics="first"))
    assert found.counts == {"day1": 75}
    assert found.of_others == found.facts["n_of_other_batches"] == 5
    assert found.facts["batch_statistics"] == "first"


@pytest.mark.parametrize(
    "told",
    [
        {"batch_statistics": "second"},
        {"batch_map": {"a": 1}, "batch": "day"},
        {"batch_fallback": "day1"},
        {"label": "kind"},
        {"ignore": ("unknown",), "batch": "day"},
    ],
)
def test_options_that_do_not_go_together_are_refused(told):
    with pytest.raises(OptionError):
        IntegrateOptions(**told)
