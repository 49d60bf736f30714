from dataclasses import replace

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock, CellFault
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import BundleError, InternalError, OptionError, ProviderError
from scgpt_runtime.manifest import TensorSpec
from scgpt_runtime.tokenizer import tokenize

COLUMNS = np.arange(toy.GENES + 2)


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return Bundle.open(toy.write(tmp_path / "toy"))


def vectors(bundle: Bundle, blocks: list[CellBlock], **options) -> np.ndarray:
    with Engine.open(bundle, EngineOptions(**options)) as engine:
        return np.concatenate([result.outputs["cell"] for result in engine.run(blocks, COLUMNS)])


def test_each_cell_gets_the_answer_for_its_own_tokens(bundle):
    block = toy.cells(50)
    tokens = tokenize(block, COLUMNS, toy.SETTINGS, len(COLUMNS))
    expected = np.stack([toy.answer(tokens, cell) for cell in range(50)])
    np.testing.assert_allclose(vectors(bundle, [block]), expected, rtol=1e-6)


def test_no_answer_depends_on_blocks_batches_or_threads(bundle):
    block = toy.cells(50)
    expected = vectors(bundle, [block])
    for rows in (1, 7, 50):
        for batch_tokens in (1, 100, 10_000):
            for threads in (1, 2):
                found = vectors(bundle, toy.split(block, rows), batch_tokens=batch_tokens, threads=threads)
                np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_same_run_twice_is_equal_to_the_bit(bundle):
    blocks = toy.split(toy.cells(50), 16)
    np.testing.assert_array_equal(vectors(bundle, blocks), vectors(bundle, blocks))


def test_the_model_is_asked_about_what_the_tokens_are_changed_to(bundle):
    blocks, seen = toy.split(toy.cells(20), 8), []

    def masked(block, tokens):
        seen.append((block.first_row, tokens.first_row, tokens.n_cells))
        return replace(tokens, values=np.full_like(tokens.values, toy.SETTINGS.mask_code))

    with Engine.open(bundle) as engine:
        found = np.concatenate([result.outputs["cell"] for result in engine.run(blocks, COLUMNS, change=masked)])
    tokens = tokenize(toy.cells(20), COLUMNS, toy.SETTINGS, len(COLUMNS))
    tokens = replace(tokens, values=np.full_like(tokens.values, toy.SETTINGS.mask_code))
    np.testing.assert_allclose(found, np.stack([toy.answer(tokens, cell) for cell in range(20)]), rtol=1e-6)
    assert seen == [(0, 0, 8), (8, 8, 8), (16, 16, 4)]


def test_a_bad_cell_is_nan_with_its_reason_and_harms_no_other(bundle):
    block = toy.cells(6)
    data = block.data.copy()
    data[block.indptr[2]] = np.nan
    data[block.indptr[4]] = -1
    with Engine.open(bundle) as engine:
        (good,) = engine.run([block], COLUMNS)
        (result,) = engine.run([replace(block, data=data)], COLUMNS)
    assert result.faults.tolist() == [0, 0, CellFault.NAN, 0, CellFault.NEGATIVE, 0]
    assert np.isnan(result.outputs["cell"][[2, 4]]).all()
    assert (result.lengths[[2, 4]] == 0).all()
    kept = [0, 1, 3, 5]
    np.testing.assert_allclose(result.outputs["cell"][kept], good.outputs["cell"][kept], rtol=1e-6)


def test_results_follow_blocks_and_keep_their_first_row(bundle):
    with Engine.open(bundle) as engine:
        results = list(engine.run(toy.split(toy.cells(10), 4), COLUMNS))
    assert [(result.first_row, result.n_cells) for result in results] == [(0, 4), (4, 4), (8, 2)]


def test_options_change_settings_and_the_id_of_vectors(bundle):
    changes = [
        {},
        {"max_length": 10},
        {"seed": 8},
        {"ties": "one-sided"},
        {"sample": "top"},
        {"genes": "alias"},
    ]
    ids = set()
    for change in changes:
        with Engine.open(bundle, EngineOptions(**change)) as engine:
            ids.add(engine.vector_id)
            for name, value in change.items():
                assert name == "genes" or getattr(engine.settings, name) == value
    assert len(ids) == len(changes)


@pytest.mark.parametrize("same", [{"threads": 1}, {"instances": 1}, {"batch_tokens": 64}, {"provider": "cpu"}])
def test_what_cannot_change_a_vector_does_not_change_its_id(bundle, same):
    fp32 = EngineOptions(precision="fp32")
    with Engine.open(bundle, fp32) as one, Engine.open(bundle, replace(fp32, **same)) as two:
        assert one.vector_id == two.vector_id


@pytest.mark.parametrize(("provider", "step"), [("cpu", 1), ("openvino", 16)])
def test_lengths_of_batches_suit_the_provider(bundle, provider, step):
    with Engine.open(bundle, EngineOptions(provider, "fp32")) as engine:
        packed = engine.batches(toy.tokens_of([2, 3, 16, 17, 24]))
    assert all(batch.ids.shape[1] % step == 0 for batch in packed)
    assert sum(batch.ids.shape[1] - int(batch.lengths.max()) for batch in packed) < step * len(packed)


def test_a_shorter_maximum_is_kept(bundle):
    with Engine.open(bundle, EngineOptions(max_length=5)) as engine:
        (result,) = engine.run([toy.cells(20)], COLUMNS)
    assert result.lengths.max() == 5


@pytest.mark.parametrize(
    "told",
    [
        {"max_length": 1},
        {"seed": -1},
        {"seed": 2**64},
        {"ties": "random"},
        {"sample": "first"},
        {"genes": "fuzzy"},
        {"batch_tokens": 0},
        {"threads": 0},
        {"provider": "gpu"},
    ],
)
def test_an_option_that_cannot_be_used_is_named(bundle, told):
    (name,) = told
    with pytest.raises(OptionError, match=name):
        Engine.open(bundle, EngineOptions(**told))


def test_a_precision_that_is_not_sealed_lists_those_that_are(bundle):
    with pytest.raises(ProviderError, match="sealed: fp32"):
        Engine.open(bundle, EngineOptions(precision="int8"))


def test_a_task_that_the_bundle_cannot_do_lists_those_it_can(bundle):
    with pytest.raises(BundleError, match="holds embed"):
        Engine.open(bundle, task="classify")


@pytest.mark.parametrize(("name", "words"), [("batch", "batch label"), ("cell", "asks for cell")])
def test_a_graph_that_wants_more_than_tokens_is_refused(bundle, name, words):
    (graph,) = bundle.manifest.graphs
    graph = replace(graph, inputs=(*graph.inputs, TensorSpec(name, "int32", ("cells",))))
    wanting = replace(bundle, manifest=replace(bundle.manifest, graphs=(graph,)))
    with pytest.raises(BundleError, match=words):
        Engine.open(wanting)


def test_a_column_map_beyond_the_vocabulary_is_our_fault(bundle):
    with Engine.open(bundle) as engine, pytest.raises(InternalError, match="62 tokens"):
        engine.run([toy.cells(2)], np.array([0, 62]))


def test_a_closed_engine_says_so_and_closes_twice(bundle):
    engine = Engine.open(bundle)
    engine.close()
    engine.close()
    with pytest.raises(InternalError, match="closed"):
        engine.run([toy.cells(2)], COLUMNS)


def test_every_stage_has_its_seconds(bundle):
    with Engine.open(bundle) as engine:
        list(engine.run(toy.split(toy.cells(50), 10), COLUMNS))
        assert set(engine.timings) == {"read", "tokenise", "queue", "infer"}
        assert engine.timings["infer"] > 0


def test_genes_that_binning_did_not_see_take_no_part(tmp_path):
    seen = tuple(f"G{i}" for i in range(0, toy.GENES, 2))
    bundle = Bundle.open(toy.write(tmp_path / "tuned", binning_genes=seen))
    assert set(seen) < set(bundle.vocabulary().tokens)
    block = toy.cells(20)
    known = np.isin(np.arange(len(COLUMNS)), [bundle.vocabulary().index[name] for name in seen])
    tokens = tokenize(block, np.where(known, COLUMNS, -1), toy.SETTINGS, len(COLUMNS))
    good = np.flatnonzero(np.diff(tokens.offsets))
    assert len(good) > 10
    expected = np.stack([toy.answer(tokens, cell) for cell in good])
    np.testing.assert_allclose(vectors(bundle, [block])[good], expected, rtol=1e-6)
