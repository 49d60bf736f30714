"""Words that mean a SOMA experiment or a release of the Census, and words that do not."""

from pathlib import Path

import pytest

from scgpt_infer.readers.places import Place, place_of


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("census:2025-01-30", Place("", "2025-01-30")),
        ("s3://bucket/census/soma/", Place("s3://bucket/census/soma/")),
        ("tiledb://name/experiment", Place("tiledb://name/experiment")),
        ("file:///data/experiment", Place("/data/experiment", path=Path("/data/experiment"))),
        ("soma:///data/experiment", Place("/data/experiment", path=Path("/data/experiment"))),
        ("soma://data/experiment", Place("data/experiment", path=Path("data/experiment"))),
    ],
)
def test_addresses(words: str, place: Place):
    assert place_of(words) == place


@pytest.mark.parametrize("words", ["s3://bucket/x", "gs://bucket/x", "file:///x"])
def test_an_address_that_was_a_path_is_the_same(words: str):
    assert place_of(Path(words)) == place_of(words)


def test_a_relative_folder_that_was_a_path_is_found(tmp_path: Path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    monkeypatch.chdir(tmp_path)
    assert place_of(Path("soma://experiment")) == Place("experiment", path=Path("experiment"))


def test_files_and_other_folders_are_none(tmp_path: Path):
    (tmp_path / "c.zarr").mkdir()
    assert [place_of(path) for path in (tmp_path, tmp_path / "c.zarr", "cells.h5ad", "census:", "http://x/y")] == [
        None
    ] * 5


def test_a_place_is_told_as_it_was_named():
    assert [str(place_of(words)) for words in ("census:stable", "s3://b/x", "soma://x")] == [
        "census:stable",
        "s3://b/x",
        "x",
    ]
