"""One answer for each cell made of a graph's answers for its tokens, and those answers themselves."""

from dataclasses import replace

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import Batch, CellFault
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import BundleError, DeviceMemoryError, InternalError
from scgpt_runtime.folds import MaskedMean
from scgpt_runtime.manifest import TensorSpec
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.tokenizer import tokenize

COLUMNS = np.arange(toy.GENES + 2)
CHOICE = ProviderChoice("cpu", "fp32", "fp32", "portable", 1, 1, "")


class Tokens:
    """A graph that says of each token its id and its value; of padding, nothing that is true.

    Parameters
    ----------
    room
        Most tokens of a batch.
    wrong
        Id of a token whose answer overflows.
    """

    provider, inputs = "Fake 1", ()

    def __init__(self, room=10**9, wrong=None):
        self.room, self.wrong = room, wrong

    def run(self, batch):
        if batch.n_tokens > self.room:
            raise DeviceMemoryError("no room")
        hidden = np.stack([batch.ids, batch.values], axis=2).astype(np.float32)
        hidden[np.arange(batch.ids.shape[1]) >= batch.lengths[:, None]] = 1e9
        hidden[batch.ids == self.wrong] = np.inf
        return {"hidden": hidden}

    def feed(self, arrays):
        raise NotImplementedError

    def close(self):
        pass


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    found = Bundle.open(toy.write(tmp_path_factory.mktemp("toy") / "toy"))
    (graph,) = found.manifest.graphs
    told = replace(graph, task="tokens", outputs=(TensorSpec("hidden", "float32", ("cells", "tokens", 2)),))
    return replace(found, manifest=replace(found.manifest, graphs=(graph, told), dim=2))


def engine_of(bundle, runner, fold=None, batch_tokens=100) -> Engine:
    settings = bundle.manifest.tokenizer
    return Engine(bundle, bundle.manifest.graphs[1], runner, CHOICE, settings, batch_tokens=batch_tokens, fold=fold)


def tokens_and_means(block):
    tokens = tokenize(block, COLUMNS, toy.SETTINGS, len(COLUMNS))
    told = np.stack([tokens.ids, tokens.values], axis=1).astype(np.float64)
    cells = [told[start + 1 : stop] for start, stop in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]
    return told, np.stack([cell.mean(axis=0) for cell in cells])


@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_a_mean_is_over_the_genes_of_a_cell_and_nothing_else(bundle, batch_tokens):
    block = toy.cells(50)
    _, expected = tokens_and_means(block)
    with engine_of(bundle, Tokens(), MaskedMean(), batch_tokens) as engine:
        (result,) = engine.run([block], COLUMNS)
    np.testing.assert_allclose(result.outputs["cell"], expected, rtol=1e-6)
    assert result.tokens is None


@pytest.mark.parametrize("length", [2, 900])
def test_a_mean_is_equal_to_the_bit_in_any_company_and_padding(length):
    random = np.random.default_rng(0)
    hidden = random.normal(size=(3, 1200, 8)).astype(np.float32)
    hidden[1, length:] = np.nan

    def batch(rows, width):
        ids, values = np.zeros((rows, width), np.uint16), np.zeros((rows, width), np.uint8)
        return Batch(ids, values, np.full(rows, length, np.int32), np.arange(rows))

    together = MaskedMean()(batch(3, 1200), {"hidden": hidden})["cell"]
    alone = MaskedMean()(batch(1, length), {"hidden": np.ascontiguousarray(hidden[1:2, :length])})["cell"]
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together[1], alone[0])


def test_a_mean_of_many_values_loses_nothing_to_float32():
    hidden = np.full((1, 40_001, 1), np.float32(0.1))
    batch = Batch(np.zeros((1, 40_001), np.uint16), np.zeros((1, 40_001), np.uint8), np.array([40_001]), np.arange(1))
    assert MaskedMean()(batch, {"hidden": hidden})["cell"] == np.float32(0.1)


def test_without_a_fold_there_is_a_row_for_each_token_in_their_order(bundle):
    block = toy.cells(50)
    expected, _ = tokens_and_means(block)
    with engine_of(bundle, Tokens()) as engine:
        results = list(engine.run(toy.split(block, 20), COLUMNS))
    found = np.concatenate([result.outputs["hidden"] for result in results])
    np.testing.assert_array_equal(found, expected)
    for result in results:
        assert result.tokens is not None
        np.testing.assert_array_equal(result.outputs["hidden"][:, 0], result.tokens.ids)


@pytest.mark.parametrize("fold", [MaskedMean(), None])
def test_an_answer_that_overflows_makes_its_cell_bad_and_no_other(bundle, fold):
    block = toy.cells(50)
    tokens = tokenize(block, COLUMNS, toy.SETTINGS, len(COLUMNS))
    cell_of = np.repeat(np.arange(50), np.diff(tokens.offsets))
    hit = np.isin(np.arange(50), cell_of[tokens.ids == 17])
    assert 0 < hit.sum() < 50
    with engine_of(bundle, Tokens(wrong=17), fold) as engine:
        (result,) = engine.run([block], COLUMNS)
    np.testing.assert_array_equal(result.faults, np.where(hit, CellFault.NOT_FINITE, CellFault.NONE))
    (rows,) = result.outputs.values()
    np.testing.assert_array_equal(np.isnan(rows[:, 0]), hit if fold else hit[cell_of])
    assert (result.lengths[hit] == 0).all()


@pytest.mark.parametrize("fold", [MaskedMean(), None])
def test_where_memory_runs_out_the_same_is_answered_in_parts(bundle, fold):
    block = toy.cells(50)
    with engine_of(bundle, Tokens(), fold, 400) as engine:
        (expected,) = engine.run([block], COLUMNS)
    with engine_of(bundle, Tokens(room=60), fold, 400) as engine:
        (found,) = engine.run([block], COLUMNS)
        assert engine.batch_tokens <= 60
    for name, rows in expected.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], rows)


def test_each_way_to_take_vectors_has_its_own_id(tiny_bundle):
    bundle, options, ids = Bundle.open(tiny_bundle), EngineOptions(precision="fp32"), set()
    for task, fold in (("embed", None), ("tokens", MaskedMean()), ("tokens", None)):
        with Engine.open(bundle, options, task, fold=fold) as engine:
            ids.add(engine.vector_id)
    assert len(ids) == 3


def test_a_fold_has_nothing_to_do_where_cells_are_answered(bundle):
    with pytest.raises(InternalError, match="nothing to fold"):
        Engine.open(bundle, task="embed", fold=MaskedMean())


def test_a_graph_with_another_free_axis_is_refused(bundle):
    (_, graph) = bundle.manifest.graphs
    graph = replace(graph, outputs=(TensorSpec("scores", "float32", ("cells", "tokens", "tokens")),))
    odd = replace(bundle, manifest=replace(bundle.manifest, graphs=(graph,)))
    with pytest.raises(BundleError, match="neither each cell nor each token"):
        Engine.open(odd, task="tokens")


@pytest.fixture(scope="module")
def originals(golden_files):
    """The original's batches, with its hidden states."""
    with np.load(golden_files / "embed_small.npz") as file:
        return dict(file)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_means_are_those_of_the_originals_hidden_states(tiny_bundle, originals, provider):
    bundle = Bundle.open(tiny_bundle)
    settings = bundle.manifest.tokenizer
    with Engine.open(bundle, EngineOptions(provider, "fp32"), "tokens", fold=MaskedMean()) as engine:
        for number in range(3):
            ids, values = originals[f"gene_{number}"], originals[f"expr_{number}"]
            lengths = (ids != settings.pad_id).sum(axis=1).astype(np.int32)
            codes = np.where(values < 0, settings.pad_code, values).astype(np.uint8)
            found = engine.infer(Batch(ids.astype(np.uint16), codes, lengths, np.arange(len(ids))))["cell"]
            hidden = originals[f"hidden_{number}"].astype(np.float64)
            expected = [row[1:length].mean(axis=0) for row, length in zip(hidden, lengths, strict=True)]
            np.testing.assert_allclose(found, np.stack(expected), atol=2e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_gives_means_of_whole_cells(tiny_bundle, precision):
    bundle = Bundle.open(tiny_bundle)
    means = []
    for asked in ("fp32", precision):
        with Engine.open(bundle, EngineOptions("cpu", asked), "tokens", fold=MaskedMean()) as engine:
            (result,) = engine.run([bundle.golden().block()], np.arange(len(engine.vocabulary)))
            means.append(result.outputs["cell"].astype(np.float64))
    cosine = (means[0] * means[1]).sum(axis=1) / np.linalg.norm(means[0], axis=1) / np.linalg.norm(means[1], axis=1)
    assert (1 - cosine).max() < {"fp32": 1e-12, "fp16": 1e-4, "int8": 1e-2}[precision]
