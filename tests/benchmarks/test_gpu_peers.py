"""PyTorch in every form that a GPU is given, on the processor: each answers as the reference does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.gpu_visit import lengths
from benchmarks.gpu_visit.torch_batches import padded, rows_packed
from benchmarks.gpu_visit.torch_peers import Peer, Rows, by_cell, contender
from scgpt_export.checkpoint import load
from scgpt_export.golden_cells import cell_inputs
from scgpt_export.random_model import write
from scgpt_runtime.manifest import TokenizerSettings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return load(write("tiny", tmp_path_factory.mktemp("peers") / "tiny"))


@pytest.fixture(scope="module")
def settings(checkpoint):
    return TokenizerSettings(cls_id=checkpoint.cls_id, pad_id=checkpoint.config.pad_id, max_length=400)


@pytest.fixture(scope="module")
def tokens(checkpoint, settings):
    return lengths.real_lengths(9, checkpoint.config.n_tokens, replace(settings, max_length=300), seed=0)


@pytest.fixture(scope="module")
def expected(checkpoint, settings, tokens):
    model = checkpoint.model()
    with torch.no_grad():
        made = [cell_inputs(tokens, cell, settings) for cell in range(tokens.n_cells)]
        return np.stack(
            [model.encode(ids, values, torch.zeros_like(ids, dtype=torch.bool))[0, 0] for ids, values in made]
        )


@pytest.mark.parametrize("rewrites", [True, False])
@pytest.mark.parametrize(("form", "kernel"), [("random", "chosen"), ("sorted", "chosen"), ("packed", "by cell")])
def test_a_peer_answers_as_the_reference(checkpoint, settings, tokens, expected, form, kernel, rewrites):
    peer = contender(checkpoint.model(), settings, Peer(form, kernel, rewrites), "cpu", (1024,))
    found = peer.answer(peer.pack(tokens, 1024))
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_fixed_shapes_answer_as_the_reference(checkpoint, settings, tokens, expected):
    for peer, buckets in ((Peer("packed", "by cell", True), ()), (Peer("sorted", "chosen", True), (320, 400))):
        made = contender(checkpoint.model(), settings, peer, "cpu", (1024,), buckets)
        batches = (
            rows_packed(tokens, settings, 1024, fixed=True, pin=False)
            if peer.form == "packed"
            else padded(tokens, settings, 1024, by_length=True, buckets=buckets, pin=False)
        )
        assert len({batch.ids.shape for batch in batches}) <= max(1, len(buckets))
        assert len({batch.offsets.shape for batch in batches if batch.offsets is not None}) <= 1
        np.testing.assert_allclose(made.answer(batches), expected, atol=2e-4)


def test_a_peer_leaves_the_model_as_it_is(checkpoint, settings):
    model = checkpoint.model()
    before = model.encoder.embedding.weight.clone()
    made = contender(model, settings, Peer("random", "chosen", False), "cpu", (1024,))
    made.facts["x"] = 1
    assert torch.equal(model.encoder.embedding.weight, before)
    assert next(model.parameters()).dtype == torch.float32


def test_padded_batches_keep_the_budget_and_hold_every_cell_once(settings, tokens):
    for by_length in (True, False):
        batches = padded(tokens, settings, 700, by_length=by_length, pin=False)
        assert sorted(np.concatenate([batch.cells for batch in batches])) == list(range(tokens.n_cells))
        assert all(batch.ids.numel() <= 700 or len(batch.cells) == 1 for batch in batches)


def test_a_rectangle_of_one_length_needs_no_mask(settings):
    tokens = lengths.one_length(4, 50, 3_000, settings, seed=0)
    (batch,) = padded(tokens, settings, 1000, by_length=True, pin=False)
    assert batch.lengths is None


def test_fixed_packed_batches_cover_all_tokens_with_rows(settings, tokens):
    for batch in rows_packed(tokens, settings, 2048, fixed=True, pin=False):
        offsets = batch.offsets.numpy()
        assert offsets[0] == 0
        assert offsets[-1] == len(batch.ids) == 2048
        assert (np.diff(offsets) >= 0).all()
        assert np.diff(offsets).max() <= settings.max_length
        assert len(batch.firsts) == len(offsets) - 1


def test_queries_of_cls_alone_attend_to_their_own_cell():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 5, 2, 4)
    offsets = torch.tensor([0, 3, 5], dtype=torch.int32)
    rows = Rows(offsets, torch.arange(3, dtype=torch.int32), 3)
    whole = by_cell(q, k, v, rows)
    alone = by_cell(q[[0, 3]], k, v, rows)
    torch.testing.assert_close(alone, whole[[0, 3]])
