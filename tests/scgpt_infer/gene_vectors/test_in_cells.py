"""What the model makes of genes in cells: streams and means, against the reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scgpt_export.checkpoint import load
from scgpt_infer.gene_vectors import GeneOptions, cell_genes, in_cells, open_states
from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.cells import CellFault
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import CellsError, InternalError, OptionError
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import match

from .conftest import EMPTY, N_CELLS, NAN, PLAIN

BAD = [EMPTY, NAN]


@pytest.fixture(scope="module")
def columns(cells, bundle):
    return match(list(cells.var_names), bundle.vocabulary()).columns


@pytest.fixture(scope="module")
def streamed(cells, bundle, columns):
    """Ids and hidden states of each cell."""
    with open_states(bundle, PLAIN, None) as engine, open_cells(cells) as source:
        return [replace(one, vectors=one.vectors.copy()) for one in cell_genes(engine, source, columns)]


@pytest.fixture(scope="module")
def expected(streamed):
    """Token id to the mean of its hidden states and their number, cell by cell in float64."""
    found: dict[int, list[np.ndarray]] = {}
    for one in streamed:
        for token, vector in zip(one.ids.tolist(), one.vectors, strict=True):
            found.setdefault(token, []).append(vector.astype(np.float64))
    return {token: (np.mean(vectors, axis=0), len(vectors)) for token, vectors in found.items()}


def test_each_cell_has_the_hidden_states_of_the_reference(streamed, cells, bundle, columns, golden_files):
    model, settings = load(golden_files / "small_checkpoint").model(), bundle.manifest.tokenizer
    with open_cells(cells) as source:
        (block,) = source.blocks(grid(source.n_cells, 1024))
    tokens = tokenize(block, columns, settings, len(bundle.vocabulary()))
    assert [one.row for one in streamed] == list(range(N_CELLS))
    for cell in (0, 63, 64, 149):
        inside = slice(*tokens.offsets[cell : cell + 2])
        ids = torch.from_numpy(tokens.ids[inside].astype(np.int64))[None]
        values = torch.from_numpy(np.array(settings.levels, np.float32)[tokens.values[inside]])[None]
        with torch.no_grad():
            hidden = model.encode(ids, values, torch.zeros_like(ids, dtype=torch.bool), None)[0].numpy()
        np.testing.assert_array_equal(streamed[cell].ids, tokens.ids[inside][1:])
        np.testing.assert_allclose(streamed[cell].vectors, hidden[1:], atol=5e-6)


def test_a_bad_cell_has_its_reason_and_no_genes(streamed):
    assert [one.row for one in streamed if one.fault] == BAD
    assert [streamed[row].fault for row in BAD] == [CellFault.NO_COUNTS, CellFault.NAN]
    assert all(len(streamed[row].ids) == len(streamed[row].vectors) == 0 for row in BAD)


def test_an_engine_for_cells_has_no_hidden_states(cells, bundle, columns):
    with Engine.open(bundle) as engine, open_cells(cells) as source, pytest.raises(InternalError, match="hidden"):
        next(cell_genes(engine, source, columns))


def test_a_mean_is_over_all_cells_that_express_the_gene(cells, bundle, tiny_bundle, expected):
    found = in_cells(cells, tiny_bundle, options=PLAIN)
    index = bundle.vocabulary().index
    assert [index[gene] for gene in found.genes] == sorted(expected)
    for gene, vector, count in zip(found.genes, found.vectors, found.cells, strict=True):
        mean, n_cells = expected[index[gene]]
        assert count == n_cells
        np.testing.assert_allclose(vector, mean, atol=1e-6)
    assert cells.var_names[9] not in found.genes  # nobody expresses it
    assert (found.record["n_cells"], found.record["n_without_embedding"]) == (N_CELLS, len(BAD))


@pytest.mark.parametrize("changes", [{"threads": 1}, {"instances": 1}, {"instances": 2, "threads": 2}])
def test_threads_and_instances_show_in_no_bit(cells, tiny_bundle, changes):
    plain, other = (in_cells(cells, tiny_bundle, options=replace(PLAIN, **told)) for told in ({}, changes))
    assert other.vectors.tobytes() == plain.vectors.tobytes()


def test_batches_show_within_rounding(cells, tiny_bundle):
    plain, other = (in_cells(cells, tiny_bundle, options=replace(PLAIN, batch_tokens=n)) for n in (None, 64))
    assert other.genes == plain.genes
    np.testing.assert_allclose(other.vectors, plain.vectors, atol=1e-5)


def test_groups_have_the_means_of_their_own_cells(cells, tiny_bundle):
    found = in_cells(cells, tiny_bundle, GeneOptions(by="kind"), PLAIN)
    assert sorted(set(found.groups)) == ["a", "b"]
    assert list(found.groups) == sorted(found.groups)
    for kind in ("a", "b"):
        alone = in_cells(cells[cells.obs["kind"] == kind].copy(), tiny_bundle, options=PLAIN)
        rows = [row for row, group in enumerate(found.groups) if group == kind]
        assert tuple(found.genes[row] for row in rows) == alone.genes
        np.testing.assert_array_equal(found.cells[rows], alone.cells)
        np.testing.assert_allclose(found.vectors[rows], alone.vectors, atol=1e-5)


def test_genes_in_few_cells_are_left_out(cells, bundle, tiny_bundle, expected):
    found = in_cells(cells, tiny_bundle, GeneOptions(min_cells=40), PLAIN)
    kept = [bundle.vocabulary().tokens[token] for token in sorted(expected) if expected[token][1] >= 40]
    assert 0 < len(kept) < len(expected)
    assert list(found.genes) == kept


def test_genes_that_are_asked_for_come_in_that_order_with_the_same_bits(cells, genes, tiny_bundle):
    plain = in_cells(cells, tiny_bundle, options=PLAIN)
    asked = (genes[30], genes[2])
    found = in_cells(cells, tiny_bundle, GeneOptions(only=(*asked, genes[9])), PLAIN)
    assert found.genes == asked
    rows = [plain.genes.index(gene) for gene in asked]
    assert found.vectors.tobytes() == plain.vectors[rows].tobytes()


def test_a_limit_takes_the_first_cells(cells, tiny_bundle):
    found = in_cells(cells, tiny_bundle, options=replace(PLAIN, limit=20))
    alone = in_cells(cells[:20].copy(), tiny_bundle, options=PLAIN)
    assert found.vectors.tobytes() == alone.vectors.tobytes()


def test_progress_is_told_to_the_last_cell(cells, tiny_bundle):
    told = []
    in_cells(cells, tiny_bundle, options=PLAIN, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, N_CELLS)
    assert told[-1] == (N_CELLS, N_CELLS)


def test_what_cannot_be_done_is_said(cells, tiny_bundle, monkeypatch):
    with pytest.raises(CellsError, match="None of the 1 cells"):
        in_cells(cells[EMPTY].copy(), tiny_bundle, options=PLAIN)
    with pytest.raises(CellsError, match="'age'"):
        in_cells(cells, tiny_bundle, GeneOptions(by="age"), PLAIN)
    empty = cells.copy()
    empty.obs["kind"] = ""
    with pytest.raises(CellsError, match="No cell has a value in the column 'kind'"):
        in_cells(empty, tiny_bundle, GeneOptions(by="kind"), PLAIN)
    with pytest.raises(CellsError, match=r"No gene is seen in 1,000 cells or more, .*--min-cells"):
        in_cells(cells, tiny_bundle, GeneOptions(min_cells=1000), PLAIN)
    with pytest.raises(OptionError, match="genes_file"):
        in_cells(cells, tiny_bundle, GeneOptions(per_cell=True), PLAIN)
    monkeypatch.setattr("scgpt_infer.gene_vectors.means.free_memory", lambda: 1000)
    with pytest.raises(OptionError, match="--only"):
        in_cells(cells, tiny_bundle, options=PLAIN)
