"""``scgpt-infer perturb`` as a user runs it."""

import dataclasses
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import toy_generator
from scgpt_infer import cli
from scgpt_infer.cli.perturb import command
from scgpt_infer.options import EmbedOptions

RUN = ("--provider", "cpu", "--precision", "fp32")
OWN = {
    "cells", "model", "output", "named", "perturbations", "per_cell", "only_genes", "only_genes_file", "control",
    "n_cells", "values", "memory", "truth", "truth_cells", "trained", "threshold", "quiet", "as_json",
}  # fmt: skip


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return toy_generator.write(tmp_path_factory.mktemp("generator") / "toy")


@pytest.fixture
def cells(tmp_path):
    counts = np.random.default_rng(0).poisson(5.0, (30, 6)).astype(np.float32)
    obs = pd.DataFrame({"gene": ["NT", "A", "B"] * 10}, [f"cell-{row}" for row in range(30)])
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=list("ABCDEF"))).write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def run(*words: object) -> int:
    return cli.run(["perturb", *map(str, words)])


def test_the_options_are_those_of_a_job_with_the_same_defaults():
    parsed = command.make_context("perturb", ["cells.h5ad", "--model", "demo", "-o", "x.h5ad"]).params
    fields = {field.name: field.default for field in dataclasses.fields(EmbedOptions)}
    assert {name: value for name, value in parsed.items() if name not in OWN}.items() <= fields.items()


def test_named_and_listed_perturbations_of_the_controls_are_written(generator, cells, tmp_path, capsys):
    (tmp_path / "pairs.txt").write_text("A+B\nC\n")
    words = ("--perturb", "A", "--perturbations", tmp_path / "pairs.txt", "--control", "gene=NT", "--memory", "2GiB")
    assert run(cells, "--model", generator, "-o", tmp_path / "x.h5ad", *words, *RUN) == 0
    printed = capsys.readouterr()
    assert "3 perturbations of 10 control cells predicted: A, A+B, C" in printed.out
    assert "30 of 30 cells" in printed.err
    assert list(ad.read_h5ad(tmp_path / "x.h5ad").obs_names) == ["A", "A+B", "C"]


def test_a_truth_is_asked_whole_and_judged(generator, cells, tmp_path, capsys):
    (tmp_path / "trained.txt").write_text("A\n")
    words = ("--control", "gene=NT", "--truth", "gene", "--trained", tmp_path / "trained.txt", "--threshold", 0.5)
    assert run(cells, "-m", generator, "-o", tmp_path / "x.csv", *words, *RUN, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["perturbations"] == ["A", "B"]
    assert told["judgement"]["threshold"] == 0.5
    assert set(told["judgement"]["averages_not_trained"]) == {"model", "control mean", "mean perturbed"}


def test_a_gene_that_was_wanted_and_is_not_there_ends_with_3(generator, cells, tmp_path, capsys):
    words = ("-p", "A", "--only-genes", "B,FOO", "--cells", 4, "--per-cell", tmp_path / "cells-after.h5ad")
    assert run(cells, "-m", generator, "-o", tmp_path / "x.parquet", *words, *RUN) == 3
    assert "FOO: wanted, and not among the known genes" in capsys.readouterr().out
    assert ad.read_h5ad(tmp_path / "cells-after.h5ad").shape == (4, 1)


def test_cells_that_are_left_out_are_told_quietly_too(generator, cells, tmp_path, capsys):
    screen = ad.read_h5ad(cells)
    screen.X[4] = np.nan
    screen.write_h5ad(cells)
    assert run(cells, "-m", generator, "-o", tmp_path / "x.csv", "-p", "A", *RUN, "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cell-4 (row 4) left out: a value is NaN" in printed.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-p", "Z"), "does not know Z"),
        ((), "Nothing is to be perturbed"),
        (("-p", "A", "--control", "NT"), "expected COLUMN=VALUE"),
        (("-p", "A", "--control", "gene=ctrl"), "it has A, B, NT"),
        (("-p", "A", "--memory", "lots"), "is no size of memory"),
        (("-p", "A", "--memory", "1MB"), "were granted"),
        (("-p", "A", "--only-genes", "A", "--only-genes-file", "x"), "give one of them"),
        (("-p", "A", "--per-cell", "cells.csv"), "Profiles of cells go to .h5ad"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_would_do(generator, cells, tmp_path, capsys, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    assert run(cells, "-m", generator, "-o", "x.h5ad", *words, *RUN) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "x.h5ad").exists()
