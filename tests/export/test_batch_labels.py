"""A checkpoint with DSBN becomes a bundle that proves itself, and integrates cells as the original would."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scgpt_export.checkpoint import load
from scgpt_export.golden_cells import cell_inputs
from scgpt_infer.integration.batches import of_first
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.proof import golden_tokens
from scgpt_runtime.verify import verify

FP32 = EngineOptions("cpu", "fp32")


@pytest.fixture(scope="module")
def checkpoint(exported_batches):
    return load(exported_batches / "checkpoint")


@pytest.fixture(scope="module")
def bundle(exported_batches) -> Bundle:
    return Bundle.open(exported_batches / "bundle")


def test_batches_without_names_are_called_by_their_number(bundle):
    assert bundle.manifest.batches == ("0", "1", "2")


def test_it_proves_itself_on_every_provider(bundle):
    results = verify(bundle)
    assert {result.provider.split()[0] for result in results} == {"OpenVINO", "CPUExecutionProvider"}
    for result in results:
        assert result.passed, result


@pytest.mark.parametrize("rule", ["cell", "first"])
def test_cells_are_answered_as_the_reference_answers_them(bundle, checkpoint, rule):
    golden, labels = bundle.golden(), np.random.default_rng(0).integers(0, 3, 20).astype(np.int32)
    given = of_first(labels) if rule == "first" else labels
    with Engine.open(bundle, FP32, labelled=True) as engine:
        (found,) = engine.run(
            [golden.block()], np.arange(203), change=lambda block, tokens: replace(tokens, labels=given)
        )
    model, settings, tokens = checkpoint.model(), bundle.manifest.tokenizer, golden_tokens(golden)
    rows = np.argsort(labels, kind="stable")  # the original sorts cells by their batch; twenty are one minibatch
    for cell in rows.tolist():
        ids, values = cell_inputs(tokens, cell, settings)
        batch = torch.from_numpy(labels[[rows[0] if rule == "first" else cell]])
        with torch.no_grad():
            expected = model.encode(ids, values, torch.zeros_like(ids, dtype=torch.bool), batch)[0, 0].numpy()
        np.testing.assert_allclose(found.outputs["cell"][cell], expected, atol=1e-5)
