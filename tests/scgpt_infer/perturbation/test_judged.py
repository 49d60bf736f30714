"""Predictions held against a truth: means of a screen, and three baselines computed here another way."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scgpt_infer.perturbation import PerturbOptions, perturb, perturb_file
from scgpt_runtime.errors import CellsError, OptionError

from .conftest import PLAIN

KNOWN = ["A", "B", "C", "D", "E", "F"]


def judged(**others: object) -> PerturbOptions:
    return PerturbOptions(control=("condition", "ctrl"), truth="condition", **others)


@pytest.fixture(scope="module")
def measured(screen) -> pd.DataFrame:
    """Mean log-normalised profile of each condition's good cells."""
    counts = screen.to_df()
    good = np.isfinite(counts).all(axis=1) & (counts.sum(axis=1) > 0)
    values = np.log1p(counts.div(counts.sum(axis=1), axis=0) * 1e4)[good]
    return values.groupby(screen.obs["condition"][good].to_numpy()).mean()[KNOWN]


def test_all_of_the_truth_is_asked_and_what_the_model_cannot_be_asked_is_told(screen_file, generator, tmp_path):
    summary = perturb_file(screen_file, tmp_path / "x.h5ad", generator, judged(), PLAIN)
    assert summary.perturbations == ("A", "A+B", "B", "C")
    found = summary.judgement
    assert found is not None
    assert [one.name for one in found.perturbations] == ["A", "A+B", "B", "C"]
    assert set(found.not_askable) == {"X1", "NOPE"}
    assert "4 perturbations judged" in summary.report()
    assert json.loads(summary.to_json())["judgement"]["averages"]["model"]["mse"] > 0


def test_figures_and_baselines_are_those_of_the_means(screen, generator, measured):
    found = perturb(screen, model=generator, how=judged(), options=PLAIN)
    told = json.loads(found.uns["perturbation_figures"])
    (pair,) = [one for one in told["perturbations"] if one["name"] == "A+B"]
    control, true = measured.loc["ctrl"], measured.loc["A+B"]
    predictions = {
        "model": pd.Series(found["A+B"].X[0], found.var_names)[KNOWN],
        "control mean": control,
        "mean perturbed": measured.loc[["A", "B", "ctrl+C"]].mean(),
        "additive": measured.loc["A"] + measured.loc["B"] - control,
    }
    assert set(pair["figures"]) == set(predictions)
    for name, prediction in predictions.items():
        figures = pair["figures"][name]
        assert figures["mse"] == pytest.approx(((prediction - true) ** 2).mean(), rel=1e-4), name
        assert figures["pearson"] == pytest.approx(stats.pearsonr(prediction, true).statistic, abs=1e-4), name
        if name != "control mean":
            change = stats.pearsonr(prediction - control, true - control).statistic
            assert figures["pearson_change"] == pytest.approx(change, abs=1e-4), name
    assert pair["figures"]["control mean"]["pearson_change"] is None
    assert "additive" not in told["perturbations"][0]["figures"]


def test_who_was_trained_on_is_the_baseline_and_told_apart(screen, generator, measured):
    found = perturb(screen, model=generator, how=judged(trained=("A", "B", "NOPE")), options=PLAIN)
    told = json.loads(found.uns["perturbation_figures"])
    assert {one["name"]: one["trained"] for one in told["perturbations"]} == {
        "A": True, "A+B": False, "B": True, "C": False,
    }  # fmt: skip
    single = told["perturbations"][0]
    expected = ((measured.loc["B"] - measured.loc["A"]) ** 2).mean()  # the judged one is left out
    assert single["figures"]["mean perturbed"]["mse"] == pytest.approx(expected, rel=1e-4)
    assert set(told) >= {"averages", "averages_trained", "averages_not_trained"}


def test_a_truth_in_another_file_is_judged_on_the_genes_that_both_have(screen, generator, tmp_path):
    controls = screen[(screen.obs["condition"] == "ctrl").to_numpy()].copy()
    other = screen[:, ["F", "X2", "B", "A", "X1"]].copy()
    other.write_h5ad(tmp_path / "truth.h5ad")
    how = PerturbOptions(("A",), truth="condition", truth_cells=tmp_path / "truth.h5ad")
    told = json.loads(perturb(controls, model=generator, how=how, options=PLAIN).uns["perturbation_figures"])
    (one,) = told["perturbations"]
    assert set(one["genes"]) == {"A", "B", "F"}


def test_a_truth_that_tells_nothing_is_refused(screen, generator):
    with pytest.raises(OptionError, match="which of its cells are the controls"):
        PerturbOptions(truth="condition")
    strange = screen.copy()
    strange.obs["condition"] = np.where(strange.obs["condition"] == "ctrl", "ctrl", "NOPE")
    with pytest.raises(CellsError, match="tells no perturbation whose genes the model knows"):
        perturb(strange, model=generator, how=judged(), options=PLAIN)


def test_a_gene_of_two_columns_is_judged_once_where_the_truth_is_another_file(screen, generator, tmp_path):
    """The same cells as controls and as truth: nothing changes, whatever their columns are."""
    control = (screen.obs["condition"] == "ctrl").to_numpy()
    twice = screen[control].copy()
    twice.var["symbol"] = [name if name != "X1" else "A" for name in twice.var_names]
    options = replace(PLAIN, gene_col="symbol")
    truth = twice.copy()
    truth.obs["condition"] = "A"
    truth.write_h5ad(tmp_path / "truth.h5ad")
    how = PerturbOptions(("A",), only=("A", "B"), truth="condition", truth_cells=tmp_path / "truth.h5ad")
    told = json.loads(perturb(twice, model=generator, how=how, options=options).uns["perturbation_figures"])
    (one,) = told["perturbations"]
    assert sorted(one["genes"]) == KNOWN
    assert one["figures"]["control mean"]["mse"] == 0


def test_what_was_trained_on_is_not_forgotten_where_no_name_is_known(screen, generator):
    with pytest.raises(OptionError, match=r"knows no gene of the perturbations that it was trained on.*: nobody"):
        perturb(screen, model=generator, how=judged(trained=("nobody",)), options=PLAIN)
    found = perturb(screen, model=generator, how=judged(trained=("A", "D")), options=PLAIN)
    assert json.loads(found.uns["perturbation_figures"])["baseline"] == "the 1 perturbations trained on"


def test_measured_cells_and_perturbations_that_are_not_judged_are_told(screen, generator, tmp_path):
    cells = screen.copy()
    conditions = cells.obs["condition"].to_numpy().astype(object)
    conditions[conditions == "ctrl+C"] = ["C", *["A"] * 19]
    cells.obs["condition"] = conditions
    dense = cells.X.toarray()
    dense[np.flatnonzero(conditions == "B")[:3]] = np.nan
    cells.X = dense
    (tmp_path / "cells").mkdir()
    cells.write_h5ad(tmp_path / "cells" / "screen.h5ad")
    how = judged(perturbations=("A", "B"))
    summary = perturb_file(tmp_path / "cells" / "screen.h5ad", tmp_path / "x.h5ad", generator, how, PLAIN)
    assert summary.judgement is not None
    assert (summary.judgement.too_few, summary.judgement.n_bad) == (("C",), 3)
    assert "too few cells: C" in summary.report()
    assert "3 measured cells cannot be used" in summary.report()
