"""Every rewrite leaves every answer as it is, on its own and in company."""

import numpy as np
import pytest
import torch

from scgpt_export.graphs import EmbedGraph, TokensGraph
from scgpt_export.rewrites import REWRITES, ClsStack, Table, rewrite

from .graph_cases import CASES, LENGTHS, distance, make_inputs, make_model, make_settings, reference_of

GRAPHS = {"embed": EmbedGraph, "tokens": TokensGraph}


def run(graph, model, inputs):
    batch = torch.from_numpy(inputs["batch"]) if model.config.norm == "dsbn" else None
    with torch.no_grad():
        return graph(*(torch.from_numpy(inputs[name]) for name in ("ids", "values", "lengths")), batch).numpy()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", REWRITES, ids=lambda step: step.name)
@pytest.mark.parametrize("kind", GRAPHS)
def test_one_rewrite_changes_nothing(case, step, kind):
    model, settings = make_model(case), make_settings(case)
    inputs = make_inputs(settings)
    plain, rewritten = (GRAPHS[kind](model, settings) for _ in range(2))
    applied = step.apply(rewritten)
    answers_at_cls = kind == "embed" and model.config.pooling == "cls"
    assert applied == {"cls-only": answers_at_cls, "norm-in-tables": False}.get(step.name, True)
    before, after = run(plain, model, inputs), run(rewritten, model, inputs)
    np.testing.assert_allclose(after[inside(after)], before[inside(before)], rtol=0, atol=2e-6)


def inside(answer):
    """Cells as they are; tokens without padding."""
    if answer.ndim == 2:
        return np.ones(answer.shape, bool)
    return np.broadcast_to((np.arange(answer.shape[1])[None] < LENGTHS[:, None])[:, :, None], answer.shape)


@pytest.mark.parametrize("case", CASES)
def test_a_rewritten_graph_says_of_padded_cells_what_the_reference_says_of_each_alone(case):
    model, settings = make_model(case), make_settings(case)
    inputs = make_inputs(settings)
    embed, tokens = EmbedGraph(model, settings), TokensGraph(model, settings)
    rewrite(embed)
    rewrite(tokens)
    cells, hidden = run(embed, model, inputs), run(tokens, model, inputs)
    for cell, length in enumerate(LENGTHS):
        expected = reference_of(model, settings, inputs, cell)
        assert distance(cells[cell], expected["cell_emb"]) < 1e-12
        np.testing.assert_allclose(hidden[cell, :length], expected["hidden"], rtol=0, atol=5e-6)


def test_rewrites_do_what_they_say():
    model, settings = make_model("continuous"), make_settings("continuous")
    graph = EmbedGraph(model, settings)
    assert rewrite(graph) == ["gene-table", "value-table", "cls-only"]
    assert isinstance(graph.genes, Table)
    assert isinstance(graph.values, Table)
    assert graph.values.rows.shape == (53, model.config.dim)
    assert isinstance(graph.stack, ClsStack)


def test_a_batch_norm_for_all_cells_goes_into_the_tables():
    graph = EmbedGraph(make_model("batchnorm"), make_settings("batchnorm"))
    assert rewrite(graph) == ["gene-table", "value-table", "norm-in-tables", "cls-only"]
    assert graph.bn is None


def test_the_gene_table_is_not_rewritten_twice():
    graph = TokensGraph(make_model("continuous"), make_settings("continuous"))
    rewrite(graph)
    assert rewrite(graph) == []
