"""The folder that scGPT's authors publish: opened as it is, with a warning, and searched by their rules."""

import logging

import h5py
import numpy as np
import pytest

from scgpt_infer.reference import Atlas, ReferenceLabeller, open_reference, precision_of
from scgpt_infer.reference.atlas import _probes
from scgpt_runtime.errors import ReferenceIndexError, ReferenceMismatchError
from toy_reference import drawn

faiss = pytest.importorskip("faiss")

N = 2_000
TYPES = np.array(["T cell", "B cell", "monocyte"])


def written(folder, factory="PCA8,IVF4_HNSW4,PQ2x4", labels=None):
    folder.mkdir()
    vectors = drawn(N, 1)
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_L2)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(folder / "index.faiss"))
    with h5py.File(folder / "meta.h5ad", "w") as file:
        labels = TYPES[np.arange(N) % 3] if labels is None else labels
        file.create_dataset("meta_labels", data=labels.astype(object), compression="gzip", chunks=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("atlas") / "all")


def test_it_is_opened_with_a_warning_that_its_model_is_not_recorded(folder, caplog):
    with caplog.at_level(logging.WARNING):
        atlas = open_reference(folder)
    assert isinstance(atlas, Atlas)
    assert "does not record which model" in caplog.text
    assert (atlas.n_cells, atlas.default_k, atlas.labels) == (N, 50, ("B cell", "T cell", "monocyte"))
    assert atlas.facts["reference_model"] == "not recorded"
    assert precision_of(folder) == "auto"
    atlas.check("any id at all")


def test_neighbours_are_those_that_faiss_tells(folder):
    atlas = Atlas.open(folder)
    queries = drawn(20, 2)
    queries[4, 0] = np.nan
    found = atlas.search(queries, 50)
    index = faiss.read_index(str(folder / "index.faiss"))
    faiss.extract_index_ivf(index).nprobe = 16
    good = np.delete(np.arange(20), 4)
    distances, rows = index.search(queries[good], 50)
    np.testing.assert_allclose(np.sort(distances, axis=1), found.distances[good], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.sort(found.rows[good], axis=1))
    assert (np.diff(found.distances[good], axis=1) >= 0).all()
    assert (found.rows[4] == -1).all()


def test_fifty_neighbours_vote(folder):
    atlas = Atlas.open(folder)
    labeller = ReferenceLabeller(atlas)
    queries = drawn(20, 2)
    codes, confidences = labeller.ranked(queries, queries, 2)
    rows = atlas.search(queries, 50).rows
    for i in range(20):
        counts = np.bincount(atlas.labels_of(rows[i]), minlength=3)
        assert counts[codes[i, 0]] == counts.max()
        assert confidences[i, 0] == pytest.approx(counts.max() / 50)
    assert labeller.k == 50
    assert labeller.facts["from"] == "reference"


def test_cells_without_a_label_do_not_vote(tmp_path):
    labels = np.where(np.arange(N) % 3 == 0, "", TYPES[np.arange(N) % 3])
    atlas = Atlas.open(written(tmp_path / "all", "Flat", labels))
    assert atlas.labels == ("B cell", "monocyte")
    queries = drawn(10, 2)
    codes, confidences = ReferenceLabeller(atlas).ranked(queries, queries, 2)
    assert (codes >= 0).all()
    np.testing.assert_allclose(confidences.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("lists", "probes"), [(1, 16), (1000, 16), (1001, 32), (4000, 32), (4096, 64), (16_000, 64), (16_384, 128)]
)
def test_lists_are_looked_into_by_the_rule_of_the_original(lists, probes):
    assert _probes(lists) == probes


def test_other_files_are_refused(tmp_path, folder):
    cut = written(tmp_path / "cut", "Flat", TYPES)
    with pytest.raises(ReferenceIndexError, match=r"has 3 labels.*2,000 cells"):
        Atlas.open(cut)
    (cut / "meta.h5ad").unlink()
    with pytest.raises(ReferenceIndexError, match=r"meta\.h5ad cannot be read"):
        Atlas.open(cut)
    (cut / "index.faiss").write_bytes(b"no index")
    with pytest.raises(ReferenceIndexError, match=r"index\.faiss cannot be read by faiss"):
        Atlas.open(cut)
    with pytest.raises(ReferenceMismatchError, match="16 wide"):
        Atlas.open(folder).search(drawn(2, dim=3), 5)
