"""Vectors that lie with the cells are taken when they are those that the model would make, and only then."""

import anndata as ad
import numpy as np
import pytest

import scgpt_infer as si
import toy_bundle
from scgpt_infer import EmbedOptions, api
from scgpt_infer.answers import stored
from scgpt_infer.readers import open_cells
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellFault
from scgpt_runtime.engine import Engine

EMPTY_CELL = 5


@pytest.fixture
def embedded(toy_h5ad, toy_model, tmp_path):
    """A file with the toy model's vectors in it."""
    si.embed_file(toy_h5ad, tmp_path / "embedded.h5ad", toy_model)
    return tmp_path / "embedded.h5ad"


@pytest.fixture
def no_engine(monkeypatch):
    monkeypatch.setattr(Engine, "open", lambda *arguments, **named: pytest.fail("the model was opened"))


def found(cells, model, **options):
    with open_cells(cells) as source:
        return stored(source, Bundle.open(model), EmbedOptions(**options))


def test_the_model_is_not_opened_and_the_vectors_are_the_same(embedded, toy_model, tmp_path, no_engine):
    with api.Model.open(toy_model, when_needed=True) as model:
        summary = model.embed_file(embedded, tmp_path / "again.npy", reuse=True)
    expected = ad.read_h5ad(embedded).obsm["X_scGPT"]
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), expected)
    assert summary.why.startswith("vectors that lay with the cells")
    assert [(cell.row, cell.reason) for cell in summary.bad] == [(EMPTY_CELL, CellFault.NO_VECTOR.reason)]
    assert summary.vector_id == ad.read_h5ad(embedded).uns["scgpt_infer"]["vector_id"]


def test_a_limit_holds(embedded, toy_model, tmp_path, no_engine):
    with api.Model.open(toy_model, EmbedOptions(limit=1030), when_needed=True) as model:
        assert model.embed_file(embedded, tmp_path / "few.npy", reuse=True).n_cells == 1030
    assert np.load(tmp_path / "few.npy").shape == (1030, toy_bundle.DIM)


def test_some_of_the_cells_keep_their_vectors(embedded, toy_model):
    some = ad.read_h5ad(embedded)[[7, 3, 900]].copy()
    answers = found(some, toy_model)
    (result,) = answers.engine.run(answers.blocks([range(3)]), answers.columns, lambda cells: None)
    np.testing.assert_array_equal(answers.vectors(result).vectors, some.obsm["X_scGPT"])


@pytest.mark.parametrize(
    "asked",
    [{"seed": 8}, {"max_length": 10}, {"sample": "top"}, {"genes": "alias"}, {"precision": "int8"}, {"key": "X_other"}],
)
def test_other_vectors_than_those_asked_for_are_not_taken(asked, embedded, toy_model):
    assert found(embedded, toy_model) is not None
    assert found(embedded, toy_model, **asked) is None


def test_vectors_of_another_model_are_not_taken(embedded, tmp_path):
    other = toy_bundle.write(tmp_path / "other", weights="f" * 64)
    assert found(embedded, other) is None


@pytest.mark.parametrize("change", [{"incomplete": "the device was lost"}, {"counts": "layers/other"}])
def test_a_record_that_does_not_fit_is_not_trusted(change, embedded, toy_model):
    cells = ad.read_h5ad(embedded)
    cells.uns["scgpt_infer"] |= change
    assert found(cells, toy_model) is None


def test_cells_that_came_later_have_no_vectors_of_the_record(embedded, toy_model):
    cells = ad.read_h5ad(embedded)
    others = cells[:10].copy()
    others.obsm["X_scGPT"] = others.obsm["X_scGPT"][::-1].copy()
    del others.uns["scgpt_infer"]
    both = ad.concat([cells, others], uns_merge="first", index_unique="-")
    assert both.uns["scgpt_infer"]["vector_id"] == cells.uns["scgpt_infer"]["vector_id"]
    assert found(both, toy_model) is None


def test_genes_that_are_too_few_now_were_too_few_then(embedded, toy_model):
    cells = ad.read_h5ad(embedded)
    cells.uns["scgpt_infer"] |= {"min_match": 0.1, "match_fraction": 0.3}
    assert found(cells, toy_model, min_match=0.3) is not None
    assert found(cells, toy_model, min_match=0.5) is None


def test_the_record_tells_of_the_cells_that_are_there(embedded, toy_model, tmp_path, no_engine):
    with api.Model.open(toy_model, EmbedOptions(limit=7), when_needed=True) as model:
        model.embed_file(embedded, tmp_path / "few.h5ad", reuse=True)
    record = ad.read_h5ad(tmp_path / "few.h5ad").uns["scgpt_infer"]
    assert (record["n_cells"], record["n_without_embedding"]) == (7, 1)


def test_a_record_that_lacks_facts_is_not_trusted(embedded, toy_model):
    cells = ad.read_h5ad(embedded)
    del cells.uns["scgpt_infer"]["precision"]
    assert found(cells, toy_model) is None


def test_cells_without_vectors_of_ours_have_none(toy_h5ad, toy_model):
    assert found(toy_h5ad, toy_model) is None
    cells = ad.read_h5ad(toy_h5ad)
    cells.obsm["X_scGPT"] = np.ones((cells.n_obs, toy_bundle.DIM), np.float32)
    assert found(cells, toy_model) is None, "no record says where they come from"
