"""Values of chosen genes: against the reference model, and what they depend on."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scgpt_export.checkpoint import load
from scgpt_infer import job
from scgpt_infer.imputation import ImputeOptions, edges_of, impute, impute_file, impute_json
from scgpt_infer.integration import IntegrateOptions
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock, CellFault
from scgpt_runtime.errors import BundleError, CellsError, GenesError, OptionError, OutputError
from scgpt_runtime.tokenizer import tokenize

from .conftest import EMPTY, N_GENES, NAN, PLAIN, POOR, STRAY, WANTED

BINS = ImputeOptions(units="bins")
GOOD = (0, 1, 20, 39)


def told(cells, model, genes, how=BINS, options=PLAIN, name="") -> np.ndarray:
    """(n_cells, n_genes) values, or what lies beside them."""
    found = impute(cells, model=model, genes=genes, how=how, options=options)
    return found.obsm[f"X_scGPT_imputed{name}"]


def changed(cells, change) -> ad.AnnData:
    """The cells with another matrix: `change` edits a dense one."""
    dense = cells.X.toarray()
    change(dense)
    other = cells.copy()
    other.X = sparse.csr_matrix(dense)
    return other


def by_hand(checkpoint, model, counts, label=None):
    """What the reference says of one cell whose wanted genes are masked, from tokens and from the embedding."""
    settings, vocabulary = Bundle.open(model).manifest.tokenizer, Bundle.open(model).vocabulary()
    seen = counts.copy()
    seen[list(WANTED)] = 0
    block = CellBlock(np.array([0, len(seen)]), np.arange(len(seen), dtype=np.int32), seen, 0)
    columns = np.array([*range(N_GENES), -1, -1])
    tokens = tokenize(block, columns, settings, len(vocabulary))
    codes = dict(zip(tokens.ids[1:].tolist(), tokens.values[1:].tolist(), strict=True))
    codes |= dict.fromkeys(WANTED, settings.mask_code)
    ids = sorted(codes)
    levels = np.array(settings.levels, np.float32)
    values = torch.from_numpy(levels[[settings.cls_code, *(codes[token] for token in ids)]])[None]
    where = torch.tensor([settings.cls_id, *ids])[None]
    with torch.no_grad():
        batch = None if label is None else torch.tensor([label])
        output = load(checkpoint).model()(where, values, torch.zeros_like(where, dtype=torch.bool), batch, mvc=True)
    places = [1 + ids.index(token) for token in WANTED]
    return {
        name: numbers[0, places].numpy()
        for name, numbers in output.items()
        if numbers.dim() == 2 and name != "cell_emb"
    }


@pytest.fixture(params=["without zeros", "with zeros"])
def either(request, tiny_bundle, zeros_bundle, zeros_checkpoint, golden_files):
    """A checkpoint and its bundle."""
    if request.param == "without zeros":
        return golden_files / "small_checkpoint", tiny_bundle
    return zeros_checkpoint, zeros_bundle


@pytest.mark.parametrize(("predict_from", "head"), [("tokens", "mlm"), ("embedding", "mvc")])
def test_values_are_those_of_the_reference(either, cells, wanted, predict_from, head):
    checkpoint, model = either
    how = ImputeOptions(predict_from=predict_from, hide="together", units="bins")
    found = impute(cells, model=model, genes=wanted, how=how, options=PLAIN)
    for row in GOOD:
        expected = by_hand(checkpoint, model, cells.X[row].toarray().ravel())
        np.testing.assert_allclose(found.obsm["X_scGPT_imputed"][row], expected[f"{head}_output"], atol=1e-4)
        if f"{head}_zero_probs" in expected:
            told_zeros = found.obsm["X_scGPT_imputed_nonzero"][row]
            np.testing.assert_allclose(told_zeros, expected[f"{head}_zero_probs"], atol=1e-5)
    assert list(found.uns["X_scGPT_imputed_genes"]) == wanted
    assert ("X_scGPT_imputed_nonzero" in found.obsm) == (f"{head}_zero_probs" in expected)


@pytest.mark.parametrize(("predict_from", "head"), [("tokens", "mlm"), ("embedding", "mvc")])
def test_a_model_with_batches_is_told_the_batch_of_each_cell(
    days_checkpoint, days_bundle, cells, wanted, predict_from, head
):
    how = ImputeOptions(predict_from, "together", "bins", batches=IntegrateOptions("day"))
    found = impute(cells, model=days_bundle, genes=wanted, how=how, options=PLAIN)
    for row in GOOD:
        expected = by_hand(days_checkpoint, days_bundle, cells.X[row].toarray().ravel(), row % 3)
        np.testing.assert_allclose(found.obsm["X_scGPT_imputed"][row], expected[f"{head}_output"], atol=1e-4)
    assert np.isnan(found.obsm["X_scGPT_imputed"][STRAY]).all()
    each = ImputeOptions(hide="each", units="bins", batches=IntegrateOptions("day"))
    alone = ImputeOptions(units="bins", batches=IntegrateOptions("day"))
    first = told(cells, days_bundle, wanted, each)[:, 0]
    np.testing.assert_allclose(first, told(cells, days_bundle, wanted[:1], alone)[:, 0], atol=1e-4)


def test_batches_are_asked_for_where_they_count_and_refused_where_not(days_bundle, zeros_bundle, cells, wanted):
    with pytest.raises(OptionError, match=r"needs the batch of each cell.*day1, day2, day3"):
        impute(cells, model=days_bundle, genes=wanted)
    with pytest.raises(OptionError, match="has no batch labels"):
        impute(cells, model=zeros_bundle, genes=wanted, how=ImputeOptions(batches=IntegrateOptions("day")))
    cells.obs["day"] = "day9"
    with pytest.raises(CellsError, match="day9"):
        impute(cells, model=days_bundle, genes=wanted, how=ImputeOptions(batches=IntegrateOptions("day")))


def test_what_is_measured_of_a_hidden_gene_has_no_part_in_it(either, cells, wanted):
    def measured_otherwise(dense):
        dense[:, list(WANTED)] = np.random.default_rng(1).poisson(9, (len(cells), len(WANTED)))

    other = changed(cells, measured_otherwise)
    good = [row for row in range(len(cells)) if row not in (EMPTY, NAN, POOR)]
    for how in (ImputeOptions(), ImputeOptions(predict_from="embedding", hide="together")):
        first, second = (told(each, either[1], wanted, how) for each in (cells, other))
        np.testing.assert_array_equal(first[good], second[good])


def test_one_at_a_time_no_gene_depends_on_which_others_are_asked_for(either, cells, wanted):
    each = ImputeOptions(hide="each", units="bins")
    all_of_them = told(cells, either[1], wanted, each)
    for place, gene in enumerate(wanted):
        alone = told(cells, either[1], [gene], each)[:, 0]
        np.testing.assert_allclose(all_of_them[:, place], alone, atol=1e-4)
        np.testing.assert_allclose(alone, told(cells, either[1], [gene])[:, 0], atol=1e-4)
    assert np.nanmax(np.abs(all_of_them - told(cells, either[1], wanted))) > 1e-3


def test_with_nothing_hidden_the_embedding_tells_each_gene_by_itself(either, cells, wanted):
    how = ImputeOptions(predict_from="embedding", units="bins")
    whole = told(cells, either[1], wanted, how)
    np.testing.assert_allclose(whole[:, 1], told(cells, either[1], wanted[1:2], how)[:, 0], atol=1e-4)


def test_a_gene_that_the_file_lacks_is_as_one_that_no_cell_expresses(tiny_bundle, cells, wanted):
    without = cells[:, [name for name in cells.var_names if name != wanted[0]]].copy()
    np.testing.assert_array_equal(told(cells, tiny_bundle, wanted), told(without, tiny_bundle, wanted))


def test_genes_come_in_the_order_in_which_they_are_asked_for(tiny_bundle, cells, wanted):
    backwards = told(cells, tiny_bundle, wanted[::-1])
    np.testing.assert_array_equal(backwards[:, ::-1], told(cells, tiny_bundle, wanted))
    np.testing.assert_array_equal(
        told(cells, tiny_bundle, [*wanted, wanted[0], "nobody"]), told(cells, tiny_bundle, wanted)
    )


def test_cells_do_not_depend_on_their_company(either, cells, wanted):
    order = np.random.default_rng(2).permutation(len(cells))
    mixed = told(
        cells[order], either[1], wanted, options=EmbedOptions(provider="cpu", precision="fp32", batch_tokens=70)
    )
    np.testing.assert_allclose(mixed, told(cells, either[1], wanted)[order], atol=1e-4)


@pytest.mark.parametrize("hide", ["together", "each"])
def test_bad_cells_have_their_reason(tiny_bundle, cells, wanted, tmp_path, hide):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    output = tmp_path / "values.json"
    done = impute_file(tmp_path / "cells.h5ad", output, tiny_bundle, wanted, PLAIN, ImputeOptions(hide=hide))
    reasons = {cell.row: cell.reason for cell in done.summary.bad}
    expected = {EMPTY: CellFault.NO_COUNTS.reason, NAN: CellFault.NAN.reason}
    assert reasons == (expected | {POOR: CellFault.ALL_HIDDEN.reason} if hide == "together" else expected)
    assert np.isnan(told(cells, tiny_bundle, wanted, ImputeOptions(hide=hide))[list(reasons)]).all()


def test_one_at_a_time_a_cell_of_one_gene_has_nothing_left(tiny_bundle, cells, wanted):
    def lonely(dense):
        dense[POOR, list(WANTED[1:])] = 0

    both = changed(cells, lonely)[[POOR, 0]].copy()
    values = told(both, tiny_bundle, wanted, ImputeOptions(hide="each"))
    assert np.isnan(values[0]).all()
    assert np.isfinite(values[1]).all()


def test_a_cell_that_is_too_long_makes_room_for_masks(tiny_bundle, cells, wanted):
    """As if the rest had been cut to fit beside them."""
    short = EmbedOptions(provider="cpu", precision="fp32", max_length=20)

    def taken_out(dense):
        dense[:, list(WANTED)] = 0

    seen = changed(cells, taken_out)
    cut = EmbedOptions(provider="cpu", precision="fp32", max_length=17 + len(WANTED))
    good = [row for row in GOOD if seen.X[row].nnz > 30]
    assert good
    np.testing.assert_array_equal(
        told(cells, tiny_bundle, wanted, options=short)[good], told(seen, tiny_bundle, wanted, options=cut)[good]
    )
    assert np.isfinite(told(cells, tiny_bundle, wanted, options=short)[good]).all()


def test_values_are_on_the_scale_of_the_matrix(zeros_bundle, cells, wanted):
    """Twice the counts are the same bins, and twice the values."""
    double = cells.copy()
    double.X = double.X * 2
    scaled = ImputeOptions()
    np.testing.assert_array_equal(told(cells, zeros_bundle, wanted), told(double, zeros_bundle, wanted))
    np.testing.assert_allclose(
        2 * told(cells, zeros_bundle, wanted, scaled), told(double, zeros_bundle, wanted, scaled), rtol=1e-5
    )


def test_expected_values_weigh_zeros_in(zeros_bundle, tiny_bundle, cells, wanted):
    how = ImputeOptions(units="expected")
    found = impute(cells, model=zeros_bundle, genes=wanted, how=how, options=PLAIN)
    nonzero, bins = found.obsm["X_scGPT_imputed_nonzero"][0], told(cells, zeros_bundle, wanted)[0]
    others = np.delete(cells.X[0].toarray().ravel()[:N_GENES], WANTED)
    edges = edges_of(others[others > 0], 51)
    by_hand = nonzero * np.interp(bins / nonzero, np.arange(51), [0, *edges])
    np.testing.assert_allclose(found.obsm["X_scGPT_imputed"][0], by_hand, atol=1e-4)
    with pytest.raises(OptionError, match="how probable"):
        impute(cells, model=tiny_bundle, genes=wanted, how=how)


def test_chosen_cells_are_those_that_are_named(tiny_bundle, cells, wanted):
    found = impute(
        cells, model=tiny_bundle, genes=wanted, how=ImputeOptions(cells=("cell-20", "cell-1")), options=PLAIN
    )
    assert found.obs_names.tolist() == ["cell-1", "cell-20"]
    np.testing.assert_allclose(
        found.obsm["X_scGPT_imputed"], told(cells, tiny_bundle, wanted, ImputeOptions())[[1, 20]], atol=1e-4
    )
    with pytest.raises(CellsError, match="no cell named nobody"):
        impute(cells, model=tiny_bundle, genes=wanted, how=ImputeOptions(cells=("nobody",)), options=PLAIN)


def test_a_bad_cell_among_chosen_ones_is_told_by_its_row_in_the_file(tiny_bundle, cells_file, wanted, tmp_path):
    how = ImputeOptions(cells=("cell-20", f"cell-{NAN}", f"cell-{EMPTY}"))
    done = impute_file(cells_file, tmp_path / "values.json", tiny_bundle, wanted, PLAIN, how)
    assert [(cell.row, cell.name) for cell in done.summary.bad] == [(row, f"cell-{row}") for row in (EMPTY, NAN)]
    text = (tmp_path / "values.json").read_text()
    assert [cell["row"] for cell in json.loads(text)["cells"]] == [EMPTY, NAN, 20]
    assert impute_json(cells_file, model=tiny_bundle, genes=wanted, how=how, options=PLAIN) == text


def test_some_cells_of_another_input_are_not_taken_from_what_is_kept(tiny_bundle, cells, wanted, tmp_path, monkeypatch):
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    path, output = tmp_path / "cells.h5ad", tmp_path / "values.csv"
    cells.write_h5ad(path)
    how = ImputeOptions(cells=("cell-20", "cell-21"))
    monkeypatch.setattr(job, "finish", crash)
    with pytest.raises(KeyboardInterrupt):
        impute_file(path, output, tiny_bundle, wanted, PLAIN, how)
    monkeypatch.undo()
    changed(cells, lambda dense: np.copyto(dense, dense[::-1].copy())).write_h5ad(path)
    with pytest.raises(OutputError, match="content of the input"):
        impute_file(path, output, tiny_bundle, wanted, PLAIN, how)


def test_every_format_holds_probabilities_too(zeros_bundle, cells, wanted, tmp_path):
    cells.obs = cells.obs.drop(columns="day")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    for name in ("out.csv", "out.parquet", "out.jsonl", "out.h5ad", "again.h5ad"):
        done = impute_file(tmp_path / "cells.h5ad", tmp_path / name, zeros_bundle, wanted, PLAIN)
    assert done.nonzero
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    values, nonzero = found.obsm["X_scGPT_imputed"], found.obsm["X_scGPT_imputed_nonzero"]
    assert ((nonzero[0] > 0) & (nonzero[0] < 1)).all()
    names = [*wanted, *(f"{gene}_nonzero" for gene in wanted)]
    both = np.hstack([values, nonzero])
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "out.parquet")[names].to_numpy(), both)
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "out.csv")[names].to_numpy(np.float32), both)
    lines = [json.loads(line)["imputed"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[EMPTY] is None
    np.testing.assert_array_equal(np.float32(lines[0]["nonzero"]), nonzero[0])
    in_place = EmbedOptions(provider="cpu", precision="fp32", in_place=True)
    for _ in range(2):
        impute_file(tmp_path / "again.h5ad", None, zeros_bundle, wanted[:1], in_place)
    again = ad.read_h5ad(tmp_path / "again.h5ad")
    assert again.obsm["X_scGPT_imputed"].shape == (len(cells), 1)
    assert again.obsm["X_scGPT_imputed_nonzero"].shape == (len(cells), 1)


def test_an_embedding_of_the_cells_stays_with_them(tiny_bundle, cells, wanted):
    from scgpt_infer import embed

    embedded = embed(cells, model=tiny_bundle, provider="cpu", precision="fp32")
    found = impute(embedded, model=tiny_bundle, genes=wanted, options=PLAIN, inplace=True)
    assert found is embedded
    assert found.uns["scgpt_infer"]["key"] == "X_scGPT"
    assert found.uns["scgpt_infer_imputed"]["key"] == "X_scGPT_imputed"
    assert found.uns["scgpt_infer_imputed"]["impute_hide"] == "together"


def test_what_cannot_be_asked(tiny_bundle, cells, wanted, genes):
    with pytest.raises(GenesError, match="none of the genes"):
        impute(cells, model=tiny_bundle, genes=["nobody"])
    with pytest.raises(OptionError, match=r"No gene was asked for.*--only"):
        impute(cells, model=tiny_bundle, genes=[])
    with pytest.raises(OptionError, match="together"):
        impute(cells, model=tiny_bundle, genes=genes, options=EmbedOptions(max_length=30))
    with pytest.raises(OptionError, match="something is hidden"):
        ImputeOptions(predict_from="tokens", hide="none")
    with pytest.raises(OptionError, match="units is 'counts'; expected values or expected or bins"):
        ImputeOptions(units="counts")


def test_a_model_without_the_head_says_what_it_can_do(toy_model, cells, wanted):
    with pytest.raises(BundleError, match=r"impute needs.*It can embed"):
        impute(cells, model=toy_model, genes=wanted)


def test_probabilities_of_an_earlier_run_do_not_stay_beside_other_values(
    zeros_bundle, tiny_bundle, cells, cells_file, wanted
):
    in_place = EmbedOptions(provider="cpu", precision="fp32", in_place=True, key="values")
    by_key = EmbedOptions(provider="cpu", precision="fp32", key="values")
    for model, keys in ((zeros_bundle, {"values", "values_nonzero"}), (tiny_bundle, {"values"})):
        impute_file(cells_file, None, model, wanted, in_place)
        assert set(ad.read_h5ad(cells_file).obsm) == keys
        impute(cells, model=model, genes=wanted, options=by_key, inplace=True)
        assert set(cells.obsm) == keys


def test_a_single_gene_may_be_named_without_a_list(zeros_bundle, cells, wanted):
    np.testing.assert_array_equal(told(cells, zeros_bundle, wanted[0]), told(cells, zeros_bundle, wanted[:1]))
