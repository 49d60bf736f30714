"""What is predicted, of whom, and told how: against a generator whose answers are known."""

import json
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from scipy import sparse

import scgpt_infer
from scgpt_infer import schema
from scgpt_infer.perturbation import PerturbOptions, perturb, perturb_file, perturb_json
from scgpt_runtime.errors import BundleError, CellsError, GenesError, OptionError, OutputError
from toy_generator import effect

from .conftest import EMPTY, NAN, PLAIN

CONTROL = ("condition", "ctrl")
KNOWN = ["C", "A", "B", "F", "E", "D"]


def asked(*perturbations: str, **others: object) -> PerturbOptions:
    return PerturbOptions(perturbations, CONTROL, **others)


def test_means_are_those_of_the_model_over_the_good_control_cells(screen, generator, logged):
    found = perturb(screen, model=generator, how=asked("A", "B+A"), options=PLAIN)
    assert list(found.obs_names) == ["A", "A+B"]
    assert list(found.var_names) == KNOWN
    assert found.obs["cells"].tolist() == [len(logged)] * 2
    control = logged.mean()[KNOWN]
    expected = control + effect("A")
    expected["A"] = effect("A")
    np.testing.assert_allclose(found["A"].X[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found.var["control"], control, rtol=1e-6)
    np.testing.assert_allclose(found.layers["change"], found.X - found.var["control"].to_numpy(), rtol=1e-6)


def test_a_short_call_is_one_with_options(screen, generator):
    short = perturb(screen, model=generator, perturbations=["A"], control=CONTROL, options=PLAIN)
    np.testing.assert_array_equal(short.X, perturb(screen, model=generator, how=asked("A"), options=PLAIN).X)
    both = perturb(screen, model=generator, perturbations="A+C", control=CONTROL, options=PLAIN)
    assert both.obs_names.tolist() == ["A+C"]
    with pytest.raises(OptionError, match="told twice"):
        perturb(screen, model=generator, perturbations=["A"], how=asked("A"), options=PLAIN)


def test_the_first_gene_of_the_file_and_of_the_vocabulary_can_be_perturbed(screen, generator, logged):
    found = perturb(screen, model=generator, how=asked("C", "A"), options=PLAIN)
    assert found["C", "C"].X.item() == pytest.approx(effect("C"))
    assert found["A", "A"].X.item() == pytest.approx(effect("A"))


def test_a_gene_that_no_cell_expresses_can_be_perturbed(screen, generator):
    silent = screen.copy()
    counts = screen.X.toarray()
    counts[:, 1] = 0
    silent.X = sparse.csr_matrix(counts)
    found = perturb(silent, model=generator, how=asked("A"), options=PLAIN)
    assert found["A", "A"].X.item() == pytest.approx(effect("A"))


def test_a_gene_without_a_column_is_told_as_silent_and_touches_no_other_perturbation(
    screen, screen_file, generator, tmp_path
):
    alone = perturb(screen, model=generator, how=asked("A"), options=PLAIN)
    beside = perturb(screen, model=generator, how=asked("A", "H"), options=PLAIN)
    np.testing.assert_array_equal(alone["A"].X, beside["A"].X)
    np.testing.assert_allclose(beside["H"].X[0], beside.var["control"] + effect("H"), rtol=1e-6)
    summary = perturb_file(screen_file, tmp_path / "x.csv", generator, asked("H"), PLAIN)
    assert summary.unmeasured == ("H",)
    assert "no column in the file" in summary.report()


@pytest.mark.parametrize("batch_tokens", [1, 13, 1000])
def test_answers_depend_neither_on_batches_nor_on_the_order_of_cells_and_genes(screen, generator, batch_tokens):
    whole = perturb(screen, model=generator, how=asked("A", "D+E"), options=PLAIN)
    other = screen[::-1, ::-1].copy()
    options = scgpt_infer.EmbedOptions(provider="cpu", precision="fp32", min_match=0, batch_tokens=batch_tokens)
    found = perturb(other, model=generator, how=asked("A", "D+E"), options=options)
    np.testing.assert_array_equal(found[:, whole.var_names].X, whole.X)


def test_so_many_cells_are_the_same_ones_in_any_order(screen, generator):
    some = perturb(screen, model=generator, how=asked("A", cells=5), options=PLAIN)
    again = perturb(screen[::-1].copy(), model=generator, how=asked("A", cells=5), options=PLAIN)
    assert some.obs["cells"].item() == 4  # one of the five is bad
    np.testing.assert_array_equal(some.X, again.X)


def test_log_values_are_taken_as_they_are(screen, generator):
    counts = perturb(screen, model=generator, how=asked("B"), options=PLAIN)
    logged = screen.copy()
    totals = np.asarray(screen.X.sum(axis=1))
    logged.X = screen.X.multiply(1e4 / np.where(totals > 0, totals, 1)).tocsr().astype(np.float32).log1p()
    logged = logged[np.isfinite(totals.ravel())].copy()
    found = perturb(logged, model=generator, how=asked("B", values="log1p"), options=PLAIN)
    np.testing.assert_allclose(found.X, counts.X, rtol=1e-5)


def test_values_of_an_explicit_zero_model_are_expected_ones(screen, generator, zero_generator):
    plain = perturb(screen, model=generator, how=asked("A"), options=PLAIN)
    found = perturb(screen, model=zero_generator, how=asked("A"), options=PLAIN)
    np.testing.assert_array_equal(found.layers["nonzero"], 0.5)
    np.testing.assert_allclose(found.X, plain.X / 2, rtol=1e-6)
    again = perturb(screen, model=zero_generator, how=asked("A"), options=PLAIN)
    np.testing.assert_array_equal(found.X, again.X)


def test_files_tell_the_same_in_each_format(screen, screen_file, generator, tmp_path):
    how = asked("A", "B+C", only=("F", "A", "X1", "Q"))
    expected = perturb(screen, model=generator, how=how, options=PLAIN)
    assert list(expected.var_names) == ["F", "A"]
    summaries = {
        suffix: perturb_file(screen_file, tmp_path / f"x.{suffix}", generator, how, PLAIN)
        for suffix in ("h5ad", "csv", "parquet", "json")
    }
    assert not summaries["csv"].complete
    assert summaries["csv"].unknown == ("X1", "Q")
    assert [cell.row for cell in summaries["csv"].bad] == [EMPTY, NAN]
    h5ad = ad.read_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(h5ad.X, expected.X)
    assert h5ad.uns["scgpt_infer"]["perturb_control"] == "condition=ctrl"
    for table in (
        pd.read_csv(tmp_path / "x.csv", float_precision="round_trip"),
        pd.read_parquet(tmp_path / "x.parquet"),
    ):
        assert list(table.columns) == ["perturbation", "gene", "control", "predicted", "change"]
        assert table["perturbation"].tolist() == ["A", "A", "B+C", "B+C"]
        np.testing.assert_array_equal(table["predicted"].to_numpy(np.float32), expected.X.ravel())
    assert perturb_json(screen, model=generator, how=how, options=PLAIN) == (tmp_path / "x.json").read_text()
    told = json.loads((tmp_path / "x.json").read_text())
    Draft202012Validator(schema.schema()).validate(told)
    assert told["perturbed"]["perturbations"][1]["genes"] == ["B", "C"]
    np.testing.assert_array_equal(np.float32(told["perturbed"]["perturbations"][0]["values"]), expected.X[0])


def test_profiles_of_cells_have_the_means_as_their_mean(screen_file, generator, tmp_path, logged):
    how = asked("A", "B", only=("F", "A"))
    perturb_file(screen_file, tmp_path / "x.h5ad", generator, how, PLAIN, per_cell=tmp_path / "cells.h5ad")
    means, cells = ad.read_h5ad(tmp_path / "x.h5ad"), ad.read_h5ad(tmp_path / "cells.h5ad")
    assert cells.shape == (2 * len(logged), 2)
    assert cells.obs_names.is_unique
    assert cells.obs["cell"].tolist() == [*logged.index, *logged.index]
    np.testing.assert_allclose(cells[(cells.obs["perturbation"] == "B").to_numpy()].X.mean(axis=0), means["B"].X[0])
    np.testing.assert_allclose(cells.X[: len(logged), 0], logged["F"] + effect("A"), rtol=1e-6)


def test_a_gene_that_is_not_known_is_told_with_near_ones(screen, generator):
    with pytest.raises(GenesError, match=r"does not know a \(near: A\).* It knows 8 genes, such as A"):
        perturb(screen, model=generator, how=asked("B", "a+B"), options=PLAIN)
    with pytest.raises(GenesError, match="names no gene"):
        perturb(screen, model=generator, how=asked("ctrl"), options=PLAIN)


def test_what_cannot_be_done_says_what_can(screen, screen_file, generator, toy_model, tmp_path):
    with pytest.raises(BundleError, match="perturb needs"):
        perturb(screen, model=toy_model, how=asked("A"), options=PLAIN)
    with pytest.raises(CellsError, match="it has A, A\\+B, B, NOPE, X1, ctrl, ctrl\\+C"):
        perturb(screen, model=generator, how=PerturbOptions(("A",), ("condition", "none")), options=PLAIN)
    with pytest.raises(OptionError, match=r"One cell of 6 genes takes .* 1000 bytes|1.0 kB were granted"):
        perturb(screen, model=generator, how=asked("A", memory=1000), options=PLAIN)
    with pytest.raises(OutputError, match="Mean profiles go to"):
        perturb_file(screen_file, tmp_path / "x.npy", generator, asked("A"), PLAIN)
    with pytest.raises(GenesError, match="None of the genes that are wanted"):
        perturb(screen, model=generator, how=asked("A", only=("X1",)), options=PLAIN)
    assert not [*tmp_path.glob("x.*")]


def test_no_file_of_a_run_takes_the_place_of_another(screen_file, generator, tmp_path):
    truth = tmp_path / "truth.h5ad"
    truth.write_bytes(screen_file.read_bytes())
    how = asked("A", truth="condition", truth_cells=truth)
    with pytest.raises(OutputError, match=r"truth.h5ad is the file of the truth"):
        perturb_file(screen_file, truth, generator, how, PLAIN)
    with pytest.raises(OutputError, match=r"truth.h5ad is the file of the truth"):
        perturb_file(screen_file, tmp_path / "x.csv", generator, how, PLAIN, per_cell=truth)
    with pytest.raises(OutputError, match="would be two files"):
        perturb_file(screen_file, tmp_path / "x.h5ad", generator, asked("A"), PLAIN, per_cell=tmp_path / "x.h5ad")
    assert truth.read_bytes() == screen_file.read_bytes()


def test_options_that_mean_nothing_here_are_refused(screen, screen_file, generator):
    before = screen_file.read_bytes()
    with pytest.raises(OptionError, match="leave in_place out"):
        perturb_file(screen_file, screen_file, generator, asked("A"), replace(PLAIN, in_place=True))
    assert screen_file.read_bytes() == before
    with pytest.raises(OptionError, match=r"take PerturbOptions\.cells"):
        perturb(screen, model=generator, how=asked("A"), options=replace(PLAIN, limit=5))
