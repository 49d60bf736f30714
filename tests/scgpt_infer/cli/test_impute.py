"""``scgpt-infer impute`` as a user runs it."""

import csv
import dataclasses
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from scgpt_infer import cli, schema
from scgpt_infer.cli.impute import command
from scgpt_infer.imputation import impute_file
from scgpt_infer.options import EmbedOptions

RUN = ("--provider", "cpu", "--precision", "fp32", "--quiet")


@pytest.fixture(scope="module")
def genes(tiny_bundle) -> list[str]:
    names = json.loads((tiny_bundle / "vocab.json").read_text())["tokens"]
    return [name for name in names if not name.startswith("<")][:40]


@pytest.fixture
def cells(genes, tmp_path):
    counts = np.random.default_rng(0).poisson(1.0, (30, 40)).astype(np.float32)
    counts[4] = 0
    obs = pd.DataFrame(index=[f"cell-{row}" for row in range(30)])
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def run(*words: object) -> int:
    return cli.run(["impute", *map(str, words)])


def test_the_options_are_those_of_a_job_with_the_same_defaults():
    own = {"model", "only", "genes_file", "output", "predict_from", "hide", "units", "chosen", "cells_file"}
    own |= {"cells", "batch", "batch_map", "batch_fallback", "quiet", "as_json", "resume"}
    parsed = command.make_context("impute", ["cells.h5ad", "--model", "demo", "--only", "A"]).params
    fields = {field.name: field.default for field in dataclasses.fields(EmbedOptions)}
    assert {name: value for name, value in parsed.items() if name not in own}.items() <= fields.items()


def test_json_keeps_to_the_schema_and_lines_are_its_cells(cells, genes, tiny_bundle, tmp_path):
    words = (cells, "-m", tiny_bundle, "--only", f"{genes[7]},{genes[2]}", *RUN)
    assert run(*words, "-o", tmp_path / "values.json") == 0
    assert run(*words, "-o", tmp_path / "values.jsonl") == 0
    document = json.loads((tmp_path / "values.json").read_text())
    Draft202012Validator(schema.schema()).validate(document)
    assert document["kind"] == "imputed_values"
    assert document["cells"][0]["imputed"]["genes"] == [genes[7], genes[2]]
    assert (document["cells"][4]["imputed"], document["cells"][4]["error"]) == (None, "all values are zero")
    told = {name: value for name, value in document["run"].items() if name.startswith("impute_")}
    assert told == {"impute_from": "tokens", "impute_genes": 2, "impute_hide": "together", "impute_units": "values"}
    lines = (tmp_path / "values.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == document["cells"]


def test_tables_and_files_of_cells_hold_the_same_values(cells, genes, tiny_bundle, tmp_path):
    (tmp_path / "panel.txt").write_text(f"{genes[7]}\n{genes[2]}\n")
    words = (cells, "-m", tiny_bundle, "--genes-file", tmp_path / "panel.txt", *RUN)
    for suffix in ("csv", "parquet", "h5ad"):
        assert run(*words, "-o", tmp_path / f"values.{suffix}") == 0
    found = ad.read_h5ad(tmp_path / "values.h5ad")
    values = found.obsm["X_scGPT_imputed"]
    assert list(found.uns["X_scGPT_imputed_genes"]) == [genes[7], genes[2]]
    assert found.X is not None
    table = pd.read_parquet(tmp_path / "values.parquet")
    np.testing.assert_array_equal(table[[genes[7], genes[2]]].to_numpy(), values)
    with (tmp_path / "values.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["cell", genes[7], genes[2], "error"]
    assert (rows[4][genes[7]], rows[4]["error"]) == ("", "all values are zero")
    np.testing.assert_array_equal(np.float32(rows[3][genes[2]]), values[3, 1])


def test_chosen_cells_keep_their_rows(cells, genes, tiny_bundle, tmp_path):
    words = (cells, "-m", tiny_bundle, "--only", genes[0], "--cells", "cell-9,cell-3", *RUN)
    assert run(*words, "-o", tmp_path / "values.json") == 0
    found = json.loads((tmp_path / "values.json").read_text())["cells"]
    assert [(cell["cell"], cell["row"]) for cell in found] == [("cell-3", 3), ("cell-9", 9)]


def test_a_gene_that_is_not_known_is_told(cells, genes, tiny_bundle, tmp_path, capsys):
    words = (cells, "-m", tiny_bundle, "--only", f"{genes[0]},nobody", "-o", tmp_path / "values.json")
    assert run(*words, "--provider", "cpu", "--precision", "fp32") == 3
    assert "not known  nobody" in capsys.readouterr().out


def test_what_cannot_be_done_says_what_can(cells, genes, tiny_bundle, tmp_path, capsys):
    words = (cells, "-m", tiny_bundle, "--only", genes[0])
    assert run(*words, "-o", tmp_path / "values.npy") == 2
    assert ".json, .jsonl, .h5ad, .zarr, .csv, .parquet, .dataset" in capsys.readouterr().err
    assert run(*words) == 2
    assert run(cells, "-m", tiny_bundle, "-o", tmp_path / "values.json") == 2
    assert "--only A,B or --genes-file FILE" in capsys.readouterr().err
    assert run(*words, "--units", "expected", "-o", tmp_path / "values.json") == 2
    assert "take --units values or bins" in capsys.readouterr().err
    assert not list(tmp_path.glob("values*"))


def test_what_an_earlier_run_had_done_is_told(cells, genes, tiny_bundle, tmp_path):
    done = impute_file(cells, tmp_path / "values.csv", tiny_bundle, genes[:2], EmbedOptions(provider="cpu"))
    assert "an earlier run" not in done.report()
    resumed = dataclasses.replace(done, summary=dataclasses.replace(done.summary, n_kept=20))
    assert "  kept       20 of them an earlier run had done" in resumed.report().splitlines()
