"""Indexes of faiss: candidates are ranked by exact distance, and recall is told as it is."""

import json

import numpy as np
import pytest

from scgpt_infer.reference import ReferenceIndex
from scgpt_infer.reference.approximate import FaissOptions, options_for
from scgpt_infer.reference.building import build
from scgpt_infer.reference.exact import nearest
from scgpt_runtime.errors import OptionError, ReferenceIndexError
from scgpt_runtime.manifest import digest_of
from toy_reference import drawn, labelled

pytest.importorskip("faiss")

SMALL = FaissOptions("IVF16_HNSW32,PQ8x4", candidates=20, probes=8)
"""An ivfpq index of the usual make takes seconds to learn, and 10,000 vectors to learn from."""


@pytest.fixture(scope="module", params=["hnsw", "ivfpq"])
def approximate(request, tmp_path_factory) -> ReferenceIndex:
    output, cells = tmp_path_factory.mktemp("index") / "ref.index", labelled(drawn(2_000, 1, dim=8))
    if request.param == "hnsw":
        return ReferenceIndex.build(output, cells, "hnsw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scgpt_infer.reference.approximate.options_for", lambda *words: SMALL)
        return ReferenceIndex.build(output, cells, "ivfpq")


def test_distances_are_exact_and_most_neighbours_are_found(approximate):
    queries = drawn(200, 2, dim=8)
    found, right = approximate.search(queries, 10), nearest(queries, approximate.vectors, 10)
    hits = (found.rows[:, :, None] == right.rows[:, None, :]).any(axis=2)
    assert hits.mean() > 0.95
    both = found.rows == right.rows
    assert both.mean() > 0.9
    np.testing.assert_array_equal(found.distances[both], right.distances[both])


def test_recall_is_measured_when_the_index_is_built(approximate):
    recall = approximate.manifest.recall
    assert (recall.k, recall.queries) == (10, 1000)
    rows = np.unique(np.linspace(0, approximate.n_cells - 1, 1000).astype(np.int64))
    queries = approximate.vectors[rows]
    sides = [approximate.search(queries, 11).rows, nearest(queries, approximate.vectors, 11).rows]
    found, right = ([set(row) - {own} for row, own in zip(side, rows.tolist(), strict=True)] for side in sides)
    shares = np.array([len(a & b) / 10 for a, b in zip(found, right, strict=True)])
    assert recall.share == pytest.approx(shares.mean(), abs=0.002)
    assert recall.lost == pytest.approx((shares < 0.5).mean(), abs=0.002)
    assert approximate.facts["reference_recall"] == recall.share


def test_neighbours_are_the_same_in_any_batch_and_after_opening_again(approximate):
    queries = drawn(50, 3, dim=8)
    queries[7, 0] = np.nan
    whole = approximate.search(queries, 10)
    again = ReferenceIndex.open(approximate.path)
    parts = [again.search(queries[start : start + 8], 10) for start in range(0, 50, 8)]
    np.testing.assert_array_equal(np.concatenate([part.rows for part in parts]), whole.rows)
    np.testing.assert_array_equal(np.concatenate([part.distances for part in parts]), whole.distances)
    assert (whole.rows[7] == -1).all()
    assert (again.search(queries[7:8], 10).rows == -1).all()


def test_more_neighbours_than_candidates_may_be_asked_for(approximate):
    assert (approximate.search(drawn(2, 4, dim=8), 200).rows >= 0).all()


def test_few_cells_are_all_found(tmp_path):
    index = ReferenceIndex.build(tmp_path / "ref.index", labelled(drawn(4)), "hnsw")
    found = index.search(drawn(2, 1), 10)
    assert (np.sort(found.rows[:, :4]) == np.arange(4)).all()
    assert (found.rows[:, 4:] == -1).all()
    assert index.manifest.recall.share == 1


def test_too_few_cells_for_codebooks_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"at least 10,000.*there are 300.*--kind exact"):
        build(tmp_path / "ref.index", labelled(drawn(300)), "ivfpq")


@pytest.mark.parametrize(("dim", "codes"), [(512, 64), (64, 64), (96, 48), (8, 8), (37, 37), (67, 1)])
def test_codes_divide_the_width(dim, codes):
    assert options_for("ivfpq", 1_000_000, dim).factory == f"IVF4096_HNSW32,PQ{codes}"


def test_an_index_of_other_vectors_is_refused(approximate, tmp_path):
    other = ReferenceIndex.build(tmp_path / "other", labelled(drawn(50, dim=8)), "hnsw")
    told = json.loads((approximate.path / "manifest.json").read_text())
    content = (other.path / "index.faiss").read_bytes()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("vectors.npy", "labels.npy", "cells.txt"):
        (copy / name).write_bytes((approximate.path / name).read_bytes())
    mine = json.loads((other.path / "manifest.json").read_text())["files"]
    told["files"] = [record for record in told["files"] if record["path"] != "index.faiss"]
    told["files"] += [record for record in mine if record["path"] == "index.faiss"]
    (copy / "index.faiss").write_bytes(content)
    (copy / "manifest.json").write_text(json.dumps(told | {"digest": digest_of(told)}))
    with pytest.raises(ReferenceIndexError, match=r"holds 50 vectors of 8"):
        ReferenceIndex.open(copy)
