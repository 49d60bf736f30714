"""An index on disk: what goes in, what is found again, what is refused."""

import json
import os

import numpy as np
import pytest

from scgpt_infer.reference import Origin, ReferenceIndex, building, open_reference, precision_of
from scgpt_infer.reference.building import build, kind_for
from scgpt_infer.reference.manifest import FORMAT, IndexManifest
from scgpt_runtime.errors import (
    CellsError,
    InternalError,
    MissingDependencyError,
    OptionError,
    OutputError,
    ReferenceChangedError,
    ReferenceIndexError,
    ReferenceMismatchError,
    ReferenceTooNewError,
)
from scgpt_runtime.manifest import digest_of
from toy_reference import DIM, ORIGIN, drawn, labelled


def test_cells_find_themselves_and_have_their_names_and_labels(index):
    found = index.search(drawn(300), 3)
    np.testing.assert_array_equal(found.rows[:, 0], np.arange(300))
    assert (found.distances[:, 0] < 1e-12).all()
    assert index.labels == ("B cell", "T cell", "monocyte")
    assert [index.labels[code] for code in index.labels_of(np.array([0, 1, 2]))] == ["T cell", "B cell", "monocyte"]
    assert index.labels_of(np.array([-1])).tolist() == [-1]
    assert index.cell_names(np.array([7, 0])) == ["cell-7", "cell-0"]
    assert index.manifest.counts == (100, 100, 100)


def test_cells_without_a_label_or_a_vector_are_left_out(tmp_path):
    vectors = drawn(10)
    vectors[3, 2], vectors[4] = np.nan, np.inf
    labels = ["a", "b", "", "a", "", "b", "a", "", "b", "a"]
    index = ReferenceIndex.build(tmp_path / "ref.index", labelled(vectors, labels))
    assert index.n_cells == 6
    assert (index.manifest.left_out.without_label, index.manifest.left_out.without_vector) == (3, 1)
    assert index.cell_names(np.arange(6)) == [f"cell-{i}" for i in (0, 1, 5, 6, 8, 9)]
    np.testing.assert_array_equal(index.vectors, vectors[[0, 1, 5, 6, 8, 9]])


def test_nothing_to_index_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(CellsError, match="4 have no label, 0 others no vector"):
        build(tmp_path / "ref.index", labelled(drawn(4), [""] * 4))
    assert list(tmp_path.iterdir()) == []


def test_vectors_that_are_not_of_unit_length_are_refused(tmp_path):
    with pytest.raises(InternalError, match="unit length"):
        build(tmp_path / "ref.index", labelled(2 * drawn(4)))
    assert list(tmp_path.iterdir()) == []


def test_the_same_cells_make_the_same_files(tmp_path):
    one, other = (build(tmp_path / name, labelled(drawn(50))) for name in ("one", "other"))
    assert one == other
    assert one.digest != build(tmp_path / "third", labelled(drawn(50, 1))).digest


def test_blocks_do_not_change_what_is_written(tmp_path, monkeypatch):
    whole = build(tmp_path / "whole", labelled(drawn(50)))
    monkeypatch.setattr(building, "_BLOCK", 7)
    assert build(tmp_path / "blocks", labelled(drawn(50))) == whole


def test_an_existing_folder_is_kept(tmp_path):
    (tmp_path / "ref.index").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        build(tmp_path / "ref.index", labelled(drawn(4)))
    with pytest.raises(OutputError, match="does not exist"):
        build(tmp_path / "nowhere" / "ref.index", labelled(drawn(4)))


def test_names_keep_their_line_ends_and_backslashes(tmp_path):
    names = ["a\nb", "a\\nb", "\r", "ü\u2028x", ""]
    cells = labelled(drawn(5))
    index = ReferenceIndex.build(tmp_path / "ref.index", type(cells)(cells.vectors, cells.labels, names, "x", ORIGIN))
    assert index.cell_names(np.arange(5)) == names


@pytest.mark.parametrize("name", ["vectors.npy", "labels.npy", "cells.txt", "manifest.json"])
def test_a_changed_byte_is_an_error_that_names_the_file(index, tmp_path, name):
    path = index.path / name
    ReferenceIndex.open(index.path, tmp_path / "cache")  # remembers digests
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReferenceIndexError, match=name):
        ReferenceIndex.open(index.path, tmp_path / "cache")


def test_a_number_changed_in_the_manifest_is_noticed(index):
    path = index.path / "manifest.json"
    path.write_text(path.read_text().replace("id-of-toy", "id-of-toi"))
    with pytest.raises(ReferenceChangedError, match="not the one that was written"):
        ReferenceIndex.open(index.path)


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_a_file_that_is_cut_or_gone_is_named(index, change):
    path = index.path / "vectors.npy"
    os.truncate(path, 100) if change == "cut" else path.unlink()
    with pytest.raises(ReferenceChangedError, match=r"vectors\.npy"):
        ReferenceIndex.open(index.path)


def test_a_newer_format_is_refused(index):
    path = index.path / "manifest.json"
    told = json.loads(path.read_text()) | {"format": FORMAT + 1, "kind": "of the future"}
    path.write_text(json.dumps(told))
    with pytest.raises(ReferenceTooNewError, match=rf"format {FORMAT + 1}.*pip install -U"):
        ReferenceIndex.open(index.path)


def _rewritten(index, **changes) -> None:
    path = index.path / "manifest.json"
    told = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(told | {"digest": digest_of(told)}))


def test_a_manifest_that_contradicts_its_files_is_refused(index):
    _rewritten(index, n_cells=299)
    with pytest.raises(ReferenceIndexError, match=r"vectors\.npy holds float32"):
        ReferenceIndex.open(index.path)
    _rewritten(index, n_cells=300, labels=["only one"])
    with pytest.raises(ReferenceIndexError, match="names labels that there are not"):
        ReferenceIndex.open(index.path)
    _rewritten(index, n_cells="many")
    with pytest.raises(ReferenceIndexError, match="n_cells"):
        ReferenceIndex.open(index.path)


def test_a_file_outside_the_folder_is_refused(index):
    files = json.loads((index.path / "manifest.json").read_text())["files"]
    files[0]["path"] = "../cells.txt"
    _rewritten(index, files=files)
    with pytest.raises(ReferenceIndexError, match="contradicts itself"):
        ReferenceIndex.open(index.path)


def test_a_pickle_is_never_loaded(index):
    path = index.path / "labels.npy"
    np.save(path, np.array([print], object), allow_pickle=True)
    _rewritten(index, files=[record for record in _files(index) if record["path"] != "labels.npy"] + [_told(path)])
    with pytest.raises(ReferenceIndexError, match=r"labels\.npy is no array"):
        ReferenceIndex.open(index.path)


def _files(index):
    return json.loads((index.path / "manifest.json").read_text())["files"]


def _told(path):
    from scgpt_runtime.digests import sha256_of

    return {"path": path.name, "size": path.stat().st_size, "sha256": sha256_of(path)}


def test_vectors_of_another_id_are_refused_with_both_ids_and_the_model(index):
    index.check("id-of-toy")
    with pytest.raises(ReferenceMismatchError) as told:
        index.check("another-id")
    for word in ("another-id", "id-of-toy", "model toy", "precision fp32", "seed 0"):
        assert word in str(told.value)


def test_queries_of_another_width_are_refused(index):
    with pytest.raises(ReferenceMismatchError, match=rf"{DIM} wide.*\(2, 3\)"):
        index.search(drawn(2, dim=3), 5)


def test_a_closed_index_is_not_searched(index):
    index.close()
    with pytest.raises(OptionError, match="closed"):
        index.search(drawn(2), 5)


def test_what_a_folder_is_shows_when_it_is_opened(index, tmp_path):
    assert isinstance(open_reference(str(index.path)), ReferenceIndex)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"format": 1}')
    for name, told in (("nothing", "not a folder"), ("empty", "no manifest.json"), ("other", "not that of a ref")):
        with pytest.raises(ReferenceIndexError, match=told):
            open_reference(tmp_path / name)


def test_the_precision_of_the_vectors_is_known_before_the_index_is_opened(tmp_path):
    cells = labelled(drawn(5))
    origin = Origin("toy", "x", "bf16")
    build(tmp_path / "ref.index", type(cells)(cells.vectors, cells.labels, cells.names, "x", origin))
    assert precision_of(tmp_path / "ref.index") == "bf16"


def test_the_record_says_which_index_gave_the_labels(index):
    assert index.facts["reference_sha256"] == IndexManifest.read(index.path).digest
    assert index.facts["reference_kind"] == "exact"


def test_small_references_are_searched_exactly_and_large_ones_by_codes(monkeypatch):
    assert kind_for("auto", building.EXACT_UP_TO) == "exact"
    assert kind_for("auto", building.EXACT_UP_TO + 1) == "ivfpq"
    with pytest.raises(OptionError, match="flat"):
        kind_for("flat", 10)
    monkeypatch.setattr("scgpt_infer.reference.approximate.find_spec", lambda name: None)
    assert kind_for("auto", 10) == "exact"
    with pytest.raises(MissingDependencyError, match=r"scgpt-infer\[annotate\]"):
        kind_for("hnsw", 10)
