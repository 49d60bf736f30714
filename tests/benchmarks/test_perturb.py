"""The benchmark of perturbations counts what it says."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from benchmarks.perturb import AGAIN, CONTROL, MEAN_CHANGE, from_others, means, responding, table


@pytest.fixture(scope="module")
def screen() -> ad.AnnData:
    """Three replicates of which each has its own level; A doubles the first ten genes, B does nothing."""
    random, rows = np.random.default_rng(0), []
    for replicate, level in (("rep_1", 30.0), ("rep_2", 60.0), ("rep_3", 40.0)):
        for target in (CONTROL, "A", "B"):
            rate = level * np.linspace(0.5, 2, 60)
            rate[:10] *= 2 if target == "A" else 1
            rows += [(replicate, target, random.poisson(rate)) for _ in range(80)]
    obs = pd.DataFrame({"bio_rep": [row[0] for row in rows], "perturbation": [row[1] for row in rows]})
    obs.index = obs.index.astype(str)
    return ad.AnnData(sparse.csr_matrix(np.stack([row[2] for row in rows]).astype(np.float32)), obs=obs)


def test_a_change_that_other_replicates_show_is_told_of_the_judged_one(screen):
    found = from_others(screen, ("A", "B"))
    assert found["A"][AGAIN].pearson_change > 0.95
    assert found["A"][AGAIN].mse < found["B"][MEAN_CHANGE].mse  # to B, the other is a wrong change
    assert set(from_others(screen, ("B",))["A"]) == {MEAN_CHANGE}


def test_only_what_changes_genes_responds(screen):
    assert responding(screen[(screen.obs["bio_rep"] == "rep_3").to_numpy()]) == ["A"]


def test_means_are_of_ways_that_answer_all_and_become_rows():
    def one(**ways: float) -> dict:
        names = ("pearson", "pearson_change", "pearson_top", "pearson_change_top", "mse", "mse_top")
        rest = {"precision": None, "recall": 0.5, "f1": 0.5}
        return {"figures": {way: dict.fromkeys(names, value) | rest for way, value in ways.items()}}

    found = means([one(model=1.0, again=0.0), one(model=0.5)])
    assert set(found) == {"model"}
    assert found["model"]["mse"] == 0.75
    assert means([]) == {}
    row = table({"trained, all 2": found, "threshold": 0.1}).splitlines()[-1]
    assert row.startswith("| trained, all 2 | model | 0.750 |")
    assert row.endswith("| - | 0.500 | 0.500 |")
