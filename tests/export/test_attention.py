"""Graph ``attention``: the last layer's raw scores, against the reference and against the original's."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from scgpt_export.graphs import AttentionGraph
from scgpt_export.passes import sequence
from scgpt_export.rewrites import rewrite
from scgpt_export.store import WeightStore
from scgpt_export.trace import signature, trace
from scgpt_infer.networks.ranks import rank_sums
from scgpt_runtime.manifest import TokenizerSettings

from .graph_cases import CASES, LENGTHS, make_inputs, make_model, make_settings
from .test_reference import LIMIT, golden, head_case


def run(model, settings, inputs, folder, precision="fp32"):
    """Scores of the graph in ONNX Runtime."""
    shape = signature(
        "attention", dim=model.config.dim, n_heads=model.config.n_heads, n_genes=model.config.n_tokens, binned=True,
        n_classes=0, batch=model.config.norm == "dsbn", explicit_zero=False,
    )  # fmt: skip
    graph = AttentionGraph(model, settings)
    rewrite(graph)
    traced = trace(graph, shape)
    sequence(precision)(traced)
    path = WeightStore(Path(folder)).write(traced, "attention.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {spec.name: inputs[spec.name] for spec in shape.inputs})
    return scores


@pytest.mark.parametrize("case", CASES)
def test_scores_are_the_reference_s_whatever_stands_at_padding(case, tmp_path):
    model, settings = make_model(case), make_settings(case)
    inputs = make_inputs(settings)
    found = run(model, settings, inputs, tmp_path)
    assert found.shape == (3, 4, 9, 9)
    for cell, length in enumerate(LENGTHS.tolist()):
        ids = torch.from_numpy(inputs["ids"][[cell], :length].astype(np.int64))
        levels = torch.from_numpy(np.array(settings.levels, np.float32)[inputs["values"][[cell], :length]])
        batch = torch.tensor([int(inputs["batch"][cell])]) if model.config.needs_batch else None
        with torch.no_grad():
            expected = model.scores(ids, levels, torch.zeros_like(ids, dtype=torch.bool), batch)[0].numpy()
        np.testing.assert_allclose(found[cell, :, :length, :length], expected, atol=LIMIT)


def test_half_precision_keeps_the_scores_to_a_percent(tmp_path):
    model, settings = make_model("continuous"), make_settings("continuous")
    inputs = make_inputs(settings)
    full, half = (run(model, settings, inputs, folder(tmp_path, name), name) for name in ("fp32", "fp16"))
    assert 0 < np.linalg.norm(full[0] - half[0]) < 0.01 * np.linalg.norm(full[0])


def folder(parent, name):
    made = parent / name
    made.mkdir()
    return made


def tutorial():
    """The original's cells, scores and ranks, with the tokenizer settings that give its ids and values back."""
    found = golden("attention_grn.npz")
    settings = TokenizerSettings(cls_id=201, pad_id=200, cls_value=0.0)
    values = found["values"].astype(np.uint8)  # whole bins, whose codes are themselves
    lengths = np.full(len(values), values.shape[1], np.int32)
    return found, settings, {"ids": found["ids"].astype(np.uint16), "values": values, "lengths": lengths}


def test_scores_are_those_of_the_original_s_tutorial(tmp_path):
    model, _, _ = head_case("base")
    found, settings, inputs = tutorial()
    np.testing.assert_array_equal(np.array(settings.levels)[inputs["values"]], found["values"])
    scores = run(model, settings, inputs, tmp_path)
    np.testing.assert_allclose(scores, found["raw_scores"], atol=LIMIT, rtol=0)
    for ours, theirs in zip(scores, found["raw_scores"], strict=True):  # so do the ranks that networks are made of
        np.testing.assert_array_equal(rank_sums(ours, 41), rank_sums(theirs, 41))
