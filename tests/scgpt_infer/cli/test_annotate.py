"""``scgpt-infer annotate`` as a user types it."""

import json

import anndata as ad
import pytest

from scgpt_infer import cli, demo

RUN = ["--model", "demo", "--provider", "cpu", "--precision", "fp32"]


@pytest.fixture
def file(tmp_path):
    cells = ad.read_h5ad(demo.CELLS)[:60].copy()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.fixture
def names(tmp_path):
    (tmp_path / "names.json").write_text('{"CD14+ Monocyte": "CD14+ monocyte", "CD19+ B": ["B cell", "plasma cell"]}')
    return tmp_path / "names.json"


def test_types_are_told_judged_and_written(file, names, tmp_path, capsys):
    out, picture = tmp_path / "out.h5ad", tmp_path / "confusion.png"
    words = ["annotate", str(file), *RUN, "-o", str(out), "--truth", "cell_type", "--names", str(names)]
    assert cli.run([*words, "--confusion", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert (
        "Labels by the fine-tuned classifier of demo, 13 classes; unknown where the confidence is below 0.5:" in printed
    )
    assert "B cell" in printed
    assert "accuracy" in printed.lower()
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "scgpt_label_3" in ad.read_h5ad(out).obs


def test_the_confusion_matrix_as_json(file, names, tmp_path, capsys):
    words = ["annotate", str(file), *RUN, "-o", str(tmp_path / "out.h5ad"), "--truth", "cell_type", "--json"]
    assert cli.run([*words, "--names", str(names), "--confusion", str(tmp_path / "confusion.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    confusion = json.loads((tmp_path / "confusion.json").read_text())
    assert sum(sum(row) for row in confusion["counts"]) == told["evaluation"]["cells"]
    assert confusion["told"][-1] == "unknown"


def test_a_dry_run_writes_nothing(file, tmp_path, capsys):
    assert cli.run(["annotate", str(file), *RUN, "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Nowhere to write: give -o OUTPUT"),
        (["-o", "out.h5ad", "--in-place"], "-o and --in-place do not go together"),
        (["-o", "out.h5ad", "--confusion", "x.png"], "--confusion needs the right labels"),
        (
            ["-o", "out.h5ad", "--truth", "cell_type", "--confusion", "x.pdf"],
            "writes .png or .json, and x.pdf is neither",
        ),
        (["-o", "out.h5ad", "--truth", "nothing"], "has no column 'nothing'"),
        (["-o", "out.h5ad", "--truth", "cell_type", "--names", "missing.json"], "missing.json cannot be read as JSON"),
        (["-o", "out.h5ad", "--by", "donor"], "name the column of the right labels"),
        (["-o", "out.npy"], "npy"),
    ],
)
def test_what_cannot_be_is_said(words, told, file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["annotate", str(file), *RUN, *words]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("out.*"))
