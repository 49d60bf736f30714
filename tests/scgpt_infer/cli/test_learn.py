"""``scgpt-infer learn`` as a user types it."""

import json

import anndata as ad
import pytest

from scgpt_infer import cli, demo

RUN = ["--label", "cell_type", "--model", "demo", "--provider", "cpu", "--precision", "fp32"]


@pytest.fixture
def file(tmp_path):
    cells = ad.read_h5ad(demo.CELLS)[:150].copy()
    cells.obs["half"] = ["first" if row % 2 else "second" for row in range(150)]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def test_a_table_for_people_then_annotate_and_inspect(file, tmp_path, capsys):
    taught = tmp_path / "taught"
    assert cli.run(["learn", str(file), *RUN, "-o", str(taught), "--by", "half"]) == 0
    printed = capsys.readouterr().out
    assert "On held-out cells, 2 folds, no two share a half (2 in all):" in printed
    assert "accuracy" in printed
    assert "precision  recall" in printed
    assert cli.run(["annotate", str(file), "--model", str(taught), "-o", str(tmp_path / "out.csv"), "--quiet"]) == 0
    assert "label" in (tmp_path / "out.csv").read_text().splitlines()[0]
    assert cli.run(["inspect", str(taught)]) == 0
    told = capsys.readouterr().out
    assert "labels from cell_type" in told
    assert "2 folds, no two with the same half" in told
    assert "classify     fp16  portable" in told
    assert "fp32  classify     not measured" not in told


def test_the_result_as_json(file, tmp_path, capsys):
    words = [
        "learn", str(file), *RUN, "-o", str(tmp_path / "taught.zip"), "--json", "--quiet", "--c", "0.1",
        "--exclude", "half=first", "--ignore", "CD34+", "--min-cells", "3", "--balanced",
    ]  # fmt: skip
    assert cli.run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["taught"]["regularisation"], told["taught"]["balanced"]) == (0.1, True)
    assert told["taught"]["left_out"]["half is first"] > 70
    assert told["bundle"].endswith("taught.zip")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--exclude", "half"], "'half' is not COLUMN=VALUE"),
        (["--c", "-1"], "c is -1.0; expected a number above 0"),
        (["--label", "kind"], "no column 'kind'"),
    ],
)
def test_what_cannot_be_done_is_told(file, tmp_path, capsys, words, told):
    assert cli.run(["learn", str(file), *RUN, "-o", str(tmp_path / "taught"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "taught").exists()
