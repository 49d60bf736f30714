"""``scgpt-infer index`` as a user runs it, and ``annotate --reference`` with what it made."""

import dataclasses
import json

import anndata as ad
import numpy as np
import pytest

from scgpt_infer import cli
from scgpt_infer.cli.index import command
from scgpt_infer.options import EmbedOptions

RUN = ("--provider", "cpu", "--precision", "fp32")


def index(*words: object) -> int:
    return cli.run(["index", *map(str, words)])


def test_the_options_are_those_of_a_job_with_the_same_defaults():
    own = {"cells", "model", "label", "output", "kind", "ignore", "exclude", "quiet", "as_json"}
    words = ["cells.h5ad", "--model", "demo", "--label", "cell_type", "-o", "ref.index"]
    parsed = command.make_context("index", words).params
    fields = {field.name: field.default for field in dataclasses.fields(EmbedOptions)}
    assert {name: value for name, value in parsed.items() if name not in own}.items() <= fields.items()


def test_cells_are_indexed_and_others_labelled_by_them(toy_model, toy_h5ad, tmp_path, capsys):
    assert index(toy_h5ad, "--label", "kind", "--model", toy_model, "-o", tmp_path / "ref.index", *RUN) == 0
    printed = capsys.readouterr()
    assert "1,099 cells of 2 labels indexed" in printed.out
    assert "left out: 1 cells: no embedding" in printed.out
    assert "row 5 (cell-5): all values are zero" in printed.out
    assert "1,100 of 1,100 cells" in printed.err
    words = ["annotate", toy_h5ad, "--model", toy_model, "--reference", tmp_path / "ref.index", "-k", 1]
    assert cli.run([*map(str, words), "-o", str(tmp_path / "types.h5ad"), "--provider", "cpu"]) == 0
    found = ad.read_h5ad(tmp_path / "types.h5ad").obs
    right = found["scgpt_label"].astype(object) == found["kind"].astype(object)
    assert right.sum() >= 1095  # a cell is the nearest to itself, and to one with equal counts that comes before it
    assert (found["scgpt_confidence"].dropna() == 1).all()
    assert np.isnan(found["scgpt_confidence"].iloc[5])


def test_vectors_of_other_settings_are_refused_before_the_work(toy_model, toy_h5ad, tmp_path, capsys):
    assert index(toy_h5ad, "--label", "kind", "--model", toy_model, "-o", tmp_path / "ref.index", *RUN) == 0
    words = ["annotate", toy_h5ad, "--model", toy_model, "--reference", tmp_path / "ref.index", "--seed", 99]
    capsys.readouterr()
    assert cli.run([*map(str, words), "-o", str(tmp_path / "types.h5ad"), "--provider", "cpu"]) == 2
    err = capsys.readouterr().err
    assert "seed 7" in err
    assert "scgpt-infer index" in err
    assert not (tmp_path / "types.h5ad").exists()


def test_json_is_the_only_thing_on_standard_output(toy_model, toy_h5ad, tmp_path, capsys):
    words = (toy_h5ad, "--label", "kind", "--model", toy_model, "-o", tmp_path / "ref.index", *RUN)
    assert index(*words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"a": 550, "b": 549}
    assert told["embedded"]["bad"][0]["name"] == "cell-5"


def test_quiet_says_nothing_but_what_went_wrong(toy_model, toy_h5ad, tmp_path, capsys):
    words = (toy_h5ad, "--label", "kind", "--model", toy_model, "-o", tmp_path / "ref.index", *RUN)
    assert index(*words, "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cell-5" in printed.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--label", "nonsense"), "nonsense"),
        ((), "--label"),
        (("--label", "kind", "--kind", "flat"), "flat"),
        (("--label", "kind", "--kind", "ivfpq"), "at least 10,000"),
        (("--label", "kind", "--layer", "nonsense"), "nonsense"),
    ],
)
def test_a_usage_error_is_told_without_a_traceback(toy_model, toy_h5ad, tmp_path, capsys, words, told):
    if "ivfpq" in words:
        pytest.importorskip("faiss")
    assert index(toy_h5ad, "--model", toy_model, "-o", tmp_path / "ref.index", *words, *RUN) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert "Traceback" not in printed.err
    assert not list(tmp_path.glob("*ref.index*"))
