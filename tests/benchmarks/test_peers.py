"""The peers answer as the reference does, on the tokens that they are given: a wrong peer would be no peer."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from benchmarks.peers.best_torch import BestModel, answer, fused, products
from benchmarks.peers.plain_torch import PlainModel
from benchmarks.peers.tokens import LEVELS, drawn, read, rectangles, write
from benchmarks.study.figures import likeness
from scgpt_export.checkpoint import load
from scgpt_export.random_model import write as write_random


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_random("tiny", tmp_path_factory.mktemp("peers") / "tiny")


@pytest.fixture(scope="module")
def cells(checkpoint, tmp_path_factory):
    genes = list(json.loads((checkpoint / "vocab.json").read_text()))[:60]
    counts = np.random.default_rng(0).poisson(0.8, (7, 61)).astype(np.float32)
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    obs = pd.DataFrame(index=[f"c{i}" for i in range(7)])
    anndata.AnnData(csr_matrix(counts), obs=obs, var=pd.DataFrame(index=["nonsense", *genes])).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def expected(checkpoint, cells):
    """The reference, a cell at a time."""
    model, (_, tokens) = load(checkpoint).model(), read(cells, checkpoint)
    vectors = []
    for batch in rectangles(tokens, 1):
        ids, values = torch.from_numpy(batch.ids), torch.from_numpy(LEVELS[batch.codes])
        vectors.append(model.encode(ids, values, torch.from_numpy(batch.padding))[0, 0].numpy())
    return np.array(vectors)


def test_a_cell_is_cls_and_its_known_genes(checkpoint, cells):
    data, tokens = read(cells, checkpoint)
    known = np.diff(csr_matrix(data.X)[:, 1:].indptr)
    assert tokens.lengths.tolist() == (known + 1).tolist()
    vocabulary = json.loads((checkpoint / "vocab.json").read_text())
    assert set(tokens.ids[tokens.offsets[:-1]]) == {vocabulary["<cls>"]}


def test_rectangles_hold_every_cell_once_and_longest_first_when_asked(checkpoint, cells):
    _, tokens = read(cells, checkpoint)
    made = list(rectangles(tokens, 3, by_length=True))
    assert sorted(np.concatenate([batch.cells for batch in made])) == list(range(7))
    assert np.concatenate([batch.lengths for batch in made]).tolist() == sorted(tokens.lengths, reverse=True)
    for batch in made:
        assert (batch.ids[batch.padding] == tokens.pad_id).all()
        assert (batch.padding.sum(axis=1) == batch.ids.shape[1] - batch.lengths).all()


def test_plain_torch_answers_as_the_reference(checkpoint, cells, expected):
    found, (_, tokens) = load(checkpoint), read(cells, checkpoint)
    model = PlainModel(found.config).eval()
    model.load_state_dict({name: found.state[name] for name in model.state_dict()})
    (batch,) = rectangles(tokens, 7)
    values = torch.from_numpy(LEVELS[batch.codes])
    with torch.inference_mode():
        vectors = model(torch.from_numpy(batch.ids), values, torch.from_numpy(batch.padding)).numpy()
    assert likeness(vectors, expected).worst > 1 - 1e-10


@pytest.mark.parametrize("attend", [fused, products])
@pytest.mark.parametrize("size", [1, 3])
def test_best_torch_answers_as_the_reference(checkpoint, cells, expected, attend, size):
    _, tokens = read(cells, checkpoint)
    model = BestModel(load(checkpoint).model(), attend).eval()
    vectors = np.empty_like(expected)
    with torch.inference_mode():
        for batch in rectangles(tokens, size, by_length=True):
            vectors[batch.cells] = answer(model, batch).numpy()
    assert likeness(vectors, expected).worst > 1 - 1e-10


def test_kept_draws_come_back_as_tokens(tmp_path):
    ids = np.array([[9, 3, 4], [9, 5, -1]])
    np.savez(tmp_path / "t.npz", ids=ids, values=np.array([[-2, 7, 50], [-2, 1, -2]], np.float32))
    tokens = drawn(tmp_path / "t.npz")
    assert tokens.ids.tolist() == [9, 3, 4, 9, 5]
    assert LEVELS[tokens.codes].tolist() == [-2, 7, 50, -2, 1]
    assert tokens.lengths.tolist() == [3, 2]


def test_an_output_has_unit_vectors(checkpoint, cells, tmp_path):
    data, tokens = read(cells, checkpoint)
    write(data, np.full((len(tokens.lengths), 4), 3, np.float32), tmp_path / "out.h5ad")
    np.testing.assert_allclose(anndata.read_h5ad(tmp_path / "out.h5ad").obsm["X_scGPT"], 0.5)
