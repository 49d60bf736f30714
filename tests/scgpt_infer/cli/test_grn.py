"""``scgpt-infer grn`` as a user runs it, from embeddings."""

import dataclasses
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from scgpt_infer import cli, schema
from scgpt_infer.cli import grn as module
from scgpt_infer.cli.grn import command
from scgpt_infer.networks import AttentionOptions, EmbeddingNetworkOptions
from scgpt_infer.options import EmbedOptions

pytest.importorskip("igraph")


@pytest.fixture(scope="module")
def genes(tiny_bundle) -> list[str]:
    names = json.loads((tiny_bundle / "vocab.json").read_text())["tokens"]
    return [name for name in names if not name.startswith("<")][:60]


@pytest.fixture
def cells(genes, tmp_path):
    random = np.random.default_rng(0)
    counts = random.poisson(random.gamma(0.8, 2.0, 60), (30, 60)).astype(np.float32)
    obs = pd.DataFrame({"kind": ["a", "b", "b"] * 10}, [f"cell-{row}" for row in range(30)])
    (tmp_path / "in").mkdir()
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(tmp_path / "in" / "cells.h5ad")
    return tmp_path / "in" / "cells.h5ad"


def run(*words: object) -> int:
    return cli.run(["grn", *map(str, words)])


def test_every_option_is_one_of_a_job_with_the_same_default():
    parsed = command.make_context("grn", ["--model", "demo", "-o", "net"]).params
    both = (EmbeddingNetworkOptions, AttentionOptions)
    ways = [{field.name: None for field in dataclasses.fields(way)} for way in both]
    names = dict.fromkeys(("only", "genes_file", "targets", "targets_file", "batch", "batch_map", "batch_fallback"))
    run_options = {"cells", "model", "outputs", "quiet", "as_json"}
    fields = {field.name: field.default for field in dataclasses.fields(EmbedOptions)}
    told = {name: value for name, value in parsed.items() if name not in run_options}
    assert told.items() <= (fields | ways[0] | ways[1] | names).items()
    assert (ways[0].keys() | ways[1].keys()) - {"batches"} <= told.keys()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--neighbours", "4", "--only", "A,B"), EmbeddingNetworkOptions(("A", "B"), neighbours=4)),
        (("--targets", "TF1,TF2"), AttentionOptions(("TF1", "TF2"))),
        (
            ("--condition", "stim", "--against", "IFN", "--compat"),
            AttentionOptions(condition="stim", against="IFN", compat=True),
        ),
    ],
)
def test_words_ask_for_one_of_the_two_ways(words, expected):
    parsed = command.make_context("grn", ["--model", "demo", "-o", "net", *words]).params
    assert module._asked(parsed) == expected


def test_several_outputs_of_one_run(tiny_bundle, cells, tmp_path, capsys):
    outputs = ("-o", tmp_path / "net.graphml", "-o", tmp_path / "net.csv", "-o", tmp_path / "net.json")
    words = ("--variable", 30, "--by", "kind", "--resolution", 1, "--min-genes", 3)
    assert run(cells, "--model", tiny_bundle, *outputs, *words) == 0
    printed = capsys.readouterr()
    assert "network of 30 genes" in printed.out
    assert "highest in" in printed.out
    assert "30 of 30 cells" in printed.err
    groups = json.loads((tmp_path / "net.json").read_text())["network"]["metagenes"][0]["groups"]
    assert [entry["group"] for entry in groups] == ["a", "b"]
    assert len(pd.read_csv(tmp_path / "net.csv")) == (tmp_path / "net.graphml").read_text().count("<edge ")


def test_attention_by_condition_goes_to_the_same_files(tiny_bundle, cells, genes, tmp_path, capsys):
    outputs = [word for name in ("net.graphml", "net.csv", "net.json") for word in ("-o", tmp_path / name)]
    words = ("--condition", "kind", "--control", "a", "--against", "b", "--targets", f"{genes[0]},{genes[1]}")
    assert run(cells, "--model", tiny_bundle, *outputs, *words, "--top", 5, "--provider", "cpu") == 0
    assert " -> " in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "net.csv")
    assert list(table.columns) == ["source", "target", "weight", "control", "against"]
    assert set(table["source"]) == {genes[0], genes[1]}
    np.testing.assert_allclose(table["weight"], table["against"] - table["control"], atol=1e-6)
    document = json.loads((tmp_path / "net.json").read_text())
    Draft202012Validator(schema.schema()).validate(document)
    assert document["network"]["directed"]
    assert len(document["network"]["edges"]) == len(table) == 10
    assert 'edgedefault="directed"' in (tmp_path / "net.graphml").read_text()


def test_a_gene_that_is_not_known_ends_with_3_and_the_others_are_joined(tiny_bundle, genes, tmp_path, capsys):
    (tmp_path / "genes.txt").write_text("\n".join([*genes, "FOO"]))
    words = ("--genes-file", tmp_path / "genes.txt", "--json")
    assert run("--model", tiny_bundle, "-o", tmp_path / "x.csv", *words) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["unknown"], told["n_genes"], told["directed"]) == (["FOO"], 60, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--only", "A", "--genes-file", "x.txt"), "give one of them"),
        (("--by", "kind"), "no file of cells was named"),
        (("--only", "FOO"), "knows none of the genes"),
        (("--top", "5"), "--top: for networks from attention alone"),
        (("--min-genes", "5", "--condition", "x"), "--min-genes: not for networks from attention"),
        (("--targets", "STAT1"), "Attention is of cells"),
        (("--threshold", "0.9999"), "no network to write"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_leaves_nothing(tiny_bundle, tmp_path, capsys, words, told):
    output = "x.json" if "--by" in words else "x.csv"
    assert run("--model", tiny_bundle, "-o", tmp_path / output, *words) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
