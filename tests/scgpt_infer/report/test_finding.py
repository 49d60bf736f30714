"""The figures of a report are those of the file, of all its cells."""

import numpy as np
import pytest

from scgpt_infer.report.colouring import Numbers, Words
from scgpt_infer.report.finding import ReportOptions, find
from scgpt_infer.report.reading import EmbeddedFile
from scgpt_runtime.errors import CellsError, OptionError

PLACES = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)


@pytest.fixture
def found(write):
    """Write a file with places and gather from it."""

    def found(options=None, **what):
        path = write(**{"obsm": {"X_umap": PLACES}} | what)
        with EmbeddedFile(path) as file:
            return find(file, ReportOptions(umap_key="X_umap", **options or {}))

    return found


def test_labels_are_counted_with_their_confidence(found):
    told = found(without=(0, 1))
    assert (told.n_cells, told.n_embedded) == (60, 58)
    assert {of.name: of.cells for of in told.figures} == {"B cell": 19, "T cell": 19, "unknown": 20}
    for of in told.figures:
        low, middle, high = of.quartiles
        assert low <= middle <= high
        assert sum(of.histogram) == of.cells
    unknown = told.figures[-1]
    assert unknown.quartiles[2] < 0.5
    assert sum(unknown.histogram[10:]) == 0


def test_shares_are_counted_by_sample(found):
    samples = ["s10", "s2", ""] * 20  # the label of row i is that of i modulo 3, so each sample has one label
    (told,) = found({"by": ("sample",)}, obs={"sample": samples}, without=(0,)).compositions
    assert told.groups == ("", "s2", "s10")
    columns = ["B cell", "T cell", "unknown", "none"]
    assert dict(zip(columns, told.cells[2].tolist(), strict=True)) == dict.fromkeys(columns, 0) | {
        "T cell": 19,
        "none": 1,
    }
    assert told.cells.sum() == 60


def test_a_column_of_samples_is_looked_for(found):
    assert [one.column for one in found(obs={"Donor": "d", "batch": "b"}).compositions] == ["Donor"]
    assert found(obs={"well": "w"}).compositions == ()


def test_a_map_shows_some_of_the_cells_and_figures_all(found):
    told = found({"max_cells": 20}, without=(5,))
    assert len(told.map.names) == len(told.map.places) == 20
    assert told.map.n_placed == 59
    assert sum(of.cells for of in told.figures) == 59
    assert all(len(one.codes if isinstance(one, Words) else one.values) == 20 for one in told.map.colourings)


def test_a_cell_is_drawn_with_its_own_name_and_values(found):
    told = found(without=(2, 3))
    for name, place in zip(told.map.names, told.map.places, strict=True):
        np.testing.assert_array_equal(place, PLACES[int(name.removeprefix("cell-"))])
    label = told.map.colourings[0]
    assert {label.words[code] for code in label.codes[:1]} == {"T cell"}
    assert label.codes.min() >= 0


def test_the_map_offers_label_confidence_samples_and_columns(found):
    obs = {"sample": "s", "counts": np.arange(60), "label": "mine"}
    told = found({"colour": ("counts", "label")}, obs=obs)
    assert [one.key for one in told.map.colourings] == ["label", "confidence", "counts", "obs/label", "sample"]
    confidence, counts = told.map.colourings[1:3]
    assert (confidence.low, confidence.high) == (0, 1)
    assert isinstance(counts, Numbers)


def test_the_best_guess_is_offered_where_labels_are_unknown(found):
    guess = ["T cell", "B cell", "B cell"] * 20
    assert "guess" in [one.key for one in found(obs={"scgpt_label_1": guess}).map.colourings]
    same = ["T cell", "B cell", "unknown"] * 20
    assert "guess" not in [one.key for one in found(obs={"scgpt_label_1": same}).map.colourings]


def test_a_file_that_is_only_embedded_has_a_map(found):
    told = found({"by": ("sample",)}, labels=None, obs={"sample": ["a", "b"] * 30}, record=None)
    assert told.label is None
    assert told.figures == told.compositions == ()
    assert [one.key for one in told.map.colourings] == ["sample"]


def test_labels_are_found_under_the_prefix_that_the_record_names(found):
    told = found(labels=None, obs={"my_label": "T"}, record={"annotation_prefix": "my_"})
    assert told.label.words == ("T",)
    assert told.figures[0].quartiles is None


def test_cells_without_a_place_are_left_out_of_the_map(found):
    places = PLACES.copy()
    places[7] = np.nan
    told = found(obsm={"X_umap": places}, without=(8,))
    assert (told.n_embedded, told.map.n_placed) == (59, 58)
    assert not {"cell-7", "cell-8"} & set(told.map.names)


def test_places_are_computed_where_none_are_named(write):
    said = []
    with EmbeddedFile(write(n_cells=6)) as file:
        told = find(file, ReportOptions(), said.append)
    assert "principal components" in told.map.told
    assert "placing 6 cells" in said[0]


@pytest.mark.parametrize("column", ["by", "colour"])
def test_a_column_that_is_not_there_is_refused(found, column):
    with pytest.raises(CellsError, match="no column 'nope'"):
        found({column: ("nope",)})


def test_what_cannot_be_a_map_is_refused(found):
    with pytest.raises(CellsError, match="a map needs two"):
        found(obsm={"X_umap": PLACES[:, :1]})
    with pytest.raises(CellsError, match="None of the 60 cells has a vector"):
        found(without=range(60))
    with pytest.raises(OptionError, match="at least 1"):
        ReportOptions(max_cells=0)
