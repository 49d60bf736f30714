"""Networks from attention: scores are the reference model's, whatever the order of cells and instances."""

import weakref

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import toy_bundle
from scgpt_export.checkpoint import load
from scgpt_infer.networks import attended, grn_file
from scgpt_infer.networks.attention import AttentionOptions, edges_to, from_attention
from scgpt_infer.networks.ranks import RankFold
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import BundleError, CellsError, GenesError, OptionError, ProviderError
from scgpt_runtime.tokenizer import tokenize

N_CELLS, N_GENES = 24, 60
EMPTY, NAN, UNLABELLED, OTHER = 5, 9, 7, 11
PLAIN = EmbedOptions(provider="cpu", precision="fp32", instances=1, threads=1)


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def genes(bundle):
    return [name for name in bundle.vocabulary().tokens if not name.startswith("<")][40 : 40 + N_GENES]


@pytest.fixture(scope="module")
def cells(genes):
    """Two conditions in turn; a bad cell in each, one without a condition, one of a third."""
    random = np.random.default_rng(0)
    dense = random.poisson(random.gamma(0.5, 2.0, N_GENES + 1), (N_CELLS, N_GENES + 1)).astype(np.float32)
    dense[EMPTY], dense[NAN, 3] = 0, np.nan
    treated = np.array(["ctrl", "stim"])[np.arange(N_CELLS) % 2].astype(object)
    treated[UNLABELLED], treated[OTHER] = None, "late"
    obs = pd.DataFrame({"treated": treated}, [f"cell-{row}" for row in range(N_CELLS)])
    order = random.permutation(N_GENES + 1)
    names = np.array([*genes, "unknown-1"])[order]
    return ad.AnnData(sparse.csr_matrix(dense[:, order]), obs=obs, var=pd.DataFrame(index=names))


@pytest.fixture(scope="module")
def how(genes):
    return AttentionOptions(
        (genes[3], genes[20]), condition="treated", control="ctrl", against="stim", only=tuple(genes[:30]), top=5
    )


@pytest.fixture(scope="module")
def found(cells, tiny_bundle, how):
    return from_attention(cells, tiny_bundle, how, PLAIN)


def ranks(scores, axis):
    """Argsort of argsort, equal ones in order."""
    return np.argsort(np.argsort(scores, axis=axis, kind="stable"), axis=axis, kind="stable")


def expected_sums(cells, bundle, golden_files, ids, rows):
    """The sums of ranks as the reference has them: bins among all genes, then the chosen ones, zeros too."""
    model = load(golden_files / "small_checkpoint").model()
    index, settings = bundle.vocabulary().index, bundle.manifest.tokenizer
    columns = np.array([index.get(name, -1) for name in cells.var_names])
    total = 0
    for row in rows:
        counts = cells.X[row]
        block = CellBlock(counts.indptr.astype(np.int64), counts.indices, counts.data, 0)
        tokens = tokenize(block, columns, settings, len(index))
        bins = dict(zip(tokens.ids.tolist(), np.array(settings.levels)[tokens.values].tolist(), strict=True))
        inputs = torch.tensor([[settings.cls_id, *ids.tolist()]])
        values = torch.tensor([[0.0, *(bins.get(token, 0.0) for token in ids.tolist())]])
        with torch.no_grad():
            scores = model.scores(inputs, values, torch.zeros_like(inputs, dtype=torch.bool))[0].numpy()
        total = total + ranks(ranks(scores, -1), -2).sum(axis=0)
    return total


def rows_of(cells, name):
    return [row for row in np.flatnonzero(cells.obs["treated"] == name) if row not in (EMPTY, NAN)]


def test_sums_of_ranks_are_the_reference_s(found, cells, bundle, golden_files):
    scores = found.scores
    assert scores.conditions == ("ctrl", "stim")
    for place, name in enumerate(scores.conditions):
        rows = rows_of(cells, name)
        assert scores.divisors[place] == len(rows)
        expected = expected_sums(cells, bundle, golden_files, scores.ids, rows)
        # Two scores may be closer than the rounding of two libraries: such a pair swaps its ranks.
        assert np.mean(scores.sums[place] != expected) < 0.01
        assert np.abs(scores.sums[place] - expected).max() <= 2 * len(rows)
        assert scores.sums[place].sum() == expected.sum()
        whole = len(rows) * 4 * (1 + len(scores.ids))
        np.testing.assert_allclose(scores.mean(name), scores.sums[place, 1:, 1:] / whole)


def test_cells_that_cannot_count_are_left_out_and_told(found, cells):
    assert [(cell.row, cell.name, cell.reason) for cell in found.scores.bad] == [
        (EMPTY, "cell-5", "all values are zero"),
        (NAN, "cell-9", "a value is NaN"),
    ]
    assert (found.conditions.n_without, found.conditions.n_others) == (1, 1)
    record = found.network.record
    assert record["n_bad"] == 2
    assert (record["network_cells_without"], record["network_cells_others"]) == (1, 1)
    assert record["network_cells_control"] == len(rows_of(cells, "ctrl"))
    assert record["network_cells_against"] == len(rows_of(cells, "stim"))


def test_the_report_tells_of_cells_that_were_left_out(cells, tiny_bundle, how, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    summary = grn_file([tmp_path / "net.csv"], tiny_bundle, tmp_path / "cells.h5ad", how, PLAIN)
    assert [cell.name for cell in summary.bad] == ["cell-5", "cell-9"]
    report = summary.report()
    assert "ctrl 12, stim 8; 1 have no treated, 1 another one" in report
    assert "2 cells: cell-5 (row 5): all values are zero; cell-9 (row 9): a value is NaN" in report
    assert (tmp_path / "net.csv").read_text().startswith("source,target,weight,control,against\n")


@pytest.mark.parametrize("changes", [{"instances": 2, "threads": 2}, {"batch_tokens": 4000}, {"batch_tokens": 1}])
def test_instances_and_batches_cannot_show(cells, tiny_bundle, how, found, changes):
    options = EmbedOptions(**{"provider": "cpu", "precision": "fp32", "instances": 1, "threads": 1} | changes)
    again = from_attention(cells, tiny_bundle, how, options)
    np.testing.assert_array_equal(again.scores.sums, found.scores.sums)
    np.testing.assert_array_equal(again.network.weight, found.network.weight)


def test_the_order_of_cells_and_genes_cannot_show(cells, tiny_bundle, how, found):
    random = np.random.default_rng(1)
    shuffled = cells[random.permutation(N_CELLS)][:, random.permutation(N_GENES + 1)].copy()
    again = from_attention(shuffled, tiny_bundle, how, PLAIN)
    np.testing.assert_array_equal(again.scores.sums, found.scores.sums)
    assert again.network.genes == found.network.genes
    np.testing.assert_array_equal(again.network.weight, found.network.weight)


def test_compat_refuses_a_condition_of_one_cell_which_it_would_lose(cells, tiny_bundle, how):
    one = AttentionOptions(how.targets, "treated", "ctrl", "late", only=how.only, compat=True)
    with pytest.raises(CellsError, match="None of the cells of late"):
        from_attention(cells, tiny_bundle, one, PLAIN)


def test_a_list_of_metagenes_is_refused_before_the_work(cells, tiny_bundle, how, tmp_path):
    with pytest.raises(OptionError, match="have none"):
        grn_file([tmp_path / "net.csv", tmp_path / "net.gmt"], tiny_bundle, tmp_path / "no cells.h5ad", how, PLAIN)


def test_compat_loses_the_first_good_cell_of_each_condition(cells, tiny_bundle, how, found):
    compat = from_attention(cells, tiny_bundle, AttentionOptions(**fields_of(how), compat=True), PLAIN)
    np.testing.assert_array_equal(compat.scores.divisors, found.scores.divisors)
    for place, name in enumerate(found.scores.conditions):
        first = cells[rows_of(cells, name)[:1]].copy()
        alone = AttentionOptions(**fields_of(how) | {"control": None, "against": name})
        lost = from_attention(first, tiny_bundle, alone, PLAIN).scores.sums[0]
        np.testing.assert_array_equal(found.scores.sums[place] - compat.scores.sums[place], lost)


def fields_of(how):
    return {name: getattr(how, name) for name in ("targets", "condition", "control", "against", "only", "top")}


def test_edges_lead_from_targets_to_the_genes_that_attend_to_them_more(found, how):
    network, names = found.network, np.array(found.network.genes)
    tokens = [found.network.genes[i] for i in network.source]
    assert {*tokens} == {*how.targets}
    assert (network.source != network.target).all()
    assert (np.diff(network.weight) <= 0).all()
    for target in how.targets:
        mine = names[network.source] == target
        assert mine.sum() == how.top
        rise = network.edge_values["against"][mine] - network.edge_values["control"][mine]
        np.testing.assert_allclose(network.weight[mine], rise, atol=1e-6)
    difference = found.scores.mean("stim") - found.scores.mean("ctrl")
    assert network.weight[0] == np.float32(difference[:, np.isin(found.scores.ids, ids_of(found, how))].max())


def ids_of(found, how):
    """Token ids of the targets; no gene rises with itself most here."""
    names = sorted(how.only)
    return found.scores.ids[[names.index(name) for name in how.targets]]


def test_equal_weights_come_in_the_order_of_names():
    weights = np.zeros((5, 5))
    weights[[1, 3], 2] = 1.0
    names = np.array(["e", "d", "c", "b", "a"])
    np.testing.assert_array_equal(edges_to(weights, names, 2, 4), [3, 1, 4, 0])


def test_one_condition_or_all_cells_have_scores_of_their_own(cells, tiny_bundle, how, found):
    alone = from_attention(cells, tiny_bundle, AttentionOptions(**fields_of(how) | {"control": None}), PLAIN)
    np.testing.assert_array_equal(alone.scores.sums[0], found.scores.sums[1])
    assert not alone.network.edge_values
    whole = AttentionOptions(how.targets, only=how.only)
    everything = from_attention(cells, tiny_bundle, whole, PLAIN)
    assert everything.scores.divisors.tolist() == [N_CELLS - 2]


def test_variable_genes_and_the_targets_are_chosen(cells, tiny_bundle, how, bundle):
    asked = AttentionOptions(how.targets, variable=10)
    found = from_attention(cells, tiny_bundle, asked, PLAIN)
    assert 10 <= len(found.scores.ids) <= 12
    index = bundle.vocabulary().index
    assert {index[name] for name in how.targets} <= {*found.scores.ids.tolist()}


def test_scores_of_a_few_cells_are_there_at_a_time(cells, tiny_bundle, genes, monkeypatch):
    alive, most = weakref.WeakSet(), []

    class Watched(np.ndarray):
        """An array that can be told from others of the same content."""

        __hash__ = object.__hash__

    class Fold(RankFold):
        def __call__(self, batch, answers):
            found = {name: rows.view(Watched) for name, rows in super().__call__(batch, answers).items()}
            alive.update(found.values())
            most.append(len(alive))
            return found

    monkeypatch.setattr(attended, "RankFold", Fold)
    many = ad.concat([cells] * 6, index_unique="-")
    found = from_attention(many, tiny_bundle, AttentionOptions((genes[0],), only=tuple(genes)), PLAIN)
    assert len(most) == found.scores.divisors.sum() == 6 * (N_CELLS - 2)
    assert max(most) <= 4  # two blocks of a cell are at work, and the answers of finished ones are added


def test_too_little_memory_is_told_before_the_work(cells, tiny_bundle, how, monkeypatch):
    monkeypatch.setattr(attended, "free_memory", lambda: 1000)
    with pytest.raises(OptionError, match=r"Scores of 30 genes in 2 conditions take .* fewer genes"):
        from_attention(cells, tiny_bundle, how, PLAIN)


def test_what_cannot_be_had_is_told(cells, bundle, tiny_bundle, how):
    def ask(options=PLAIN, **changes):
        return from_attention(cells, tiny_bundle, AttentionOptions(**fields_of(how) | changes), options)

    with pytest.raises(CellsError, match=r"No cell has 'treatd' in the column 'treated'.*ctrl, late, stim"):
        ask(against="treatd")
    with pytest.raises(CellsError, match=r"Compare 'ctrl' with which condition.*late, stim"):
        ask(against=None)
    with pytest.raises(CellsError, match="nothing"):
        ask(condition="nothing")
    with pytest.raises(GenesError, match="none of the genes that were asked for: NOGENE"):
        ask(targets=("NOGENE",))
    elsewhere = next(name for name in bundle.vocabulary().tokens if name not in cells.var_names)
    with pytest.raises(GenesError, match=rf"None of the targets \({elsewhere}\) is known to the model and among"):
        ask(targets=(elsewhere,))
    with pytest.raises(ProviderError, match="no int8 graph for attention; sealed: fp32, fp16"):
        ask(EmbedOptions(provider="cpu", precision="int8"))
    assert ask(targets=(*how.targets, "NOGENE", "unknown-1")).unknown == ("NOGENE", "unknown-1")


def test_a_bundle_without_the_graph_says_what_it_can_do(cells, how, tmp_path):
    bundle = toy_bundle.write(tmp_path / "toy")
    with pytest.raises(BundleError, match=r"attention scores.*It can embed"):
        from_attention(cells, bundle, how, PLAIN)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"condition": None}, "values of a column"),
        ({"control": None, "against": None}, "Which conditions of 'treated'"),
        ({"control": "stim"}, "both 'stim'"),
        ({"top": 0}, "top is 0"),
        ({"variable": 1}, "variable is 1"),
        ({"variable": 65_536}, "variable is 65536"),
    ],
)
def test_options_that_do_not_go_together(how, changes, told):
    with pytest.raises(OptionError, match=told):
        AttentionOptions(**fields_of(how) | changes)
