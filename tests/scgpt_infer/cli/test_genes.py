"""``scgpt-infer genes`` as a user runs it."""

import dataclasses
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scgpt_infer import cli
from scgpt_infer.cli.genes import command
from scgpt_infer.options import EmbedOptions

RUN = ("--provider", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def genes(tiny_bundle) -> list[str]:
    names = json.loads((tiny_bundle / "vocab.json").read_text())["tokens"]
    return [name for name in names if not name.startswith("<")][:40]


@pytest.fixture
def cells(genes, tmp_path):
    counts = np.random.default_rng(0).poisson(1.0, (30, 40)).astype(np.float32)
    obs = pd.DataFrame({"kind": ["a", "b", "b"] * 10}, [f"cell-{row}" for row in range(30)])
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def run(*words: object) -> int:
    return cli.run(["genes", *map(str, words)])


def test_the_options_are_those_of_a_job_with_the_same_defaults():
    own = {"cells", "model", "output", "only", "genes_file", "by", "min_cells", "per_cell", "quiet", "as_json"}
    parsed = command.make_context("genes", ["--model", "demo", "-o", "genes.h5ad"]).params
    fields = {field.name: field.default for field in dataclasses.fields(EmbedOptions)}
    assert {name: value for name, value in parsed.items() if name not in own}.items() <= fields.items()


def test_without_cells_it_writes_the_models_own_embeddings(tiny_bundle, tmp_path, capsys):
    assert run("--model", tiny_bundle, "-o", tmp_path / "genes.npy") == 0
    assert np.load(tmp_path / "genes.npy").shape == (3200, 64)
    assert "vectors of 3,200 genes" in capsys.readouterr().out


def test_with_cells_it_writes_means_by_group(tiny_bundle, cells, tmp_path, capsys):
    words = (cells, "--model", tiny_bundle, "-o", tmp_path / "genes.csv", "--by", "kind", "--min-cells", 2, *RUN)
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert "30 of 30 cells" in printed.err
    assert [line.split() for line in printed.out.splitlines()[-2:]] == [["a", "10"], ["b", "20"]]
    assert set(pd.read_csv(tmp_path / "genes.csv")["kind"]) == {"a", "b"}


def test_a_gene_that_is_not_known_ends_with_3_and_the_others_are_written(tiny_bundle, genes, tmp_path, capsys):
    (tmp_path / "genes.txt").write_text(f"{genes[3]}\nFOO\n")
    assert run("--model", tiny_bundle, "-o", tmp_path / "x.csv", "--genes-file", tmp_path / "genes.txt", "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["unknown"], told["n_genes"], told["cells"]) == (["FOO"], 1, None)
    assert list(pd.read_csv(tmp_path / "x.csv")["gene"]) == [genes[3]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--only", "A", "--genes-file", "x.txt"), "give one of them"),
        (("--by", "kind"), "no file of cells was named"),
        (("--only", "FOO"), "knows none of the genes"),
    ],
)
def test_what_cannot_be_done_ends_with_2(tiny_bundle, tmp_path, capsys, words, told):
    assert run("--model", tiny_bundle, "-o", tmp_path / "x.csv", *words) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()
