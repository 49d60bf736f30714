"""``scgpt-infer integrate`` as a user types it."""

import json

import anndata as ad
import numpy as np
import pytest

import toy_bundle
from scgpt_infer import cli
from scgpt_infer.integration.scores import Scores

RUN = ["--provider", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(toy_bundle.write(tmp_path_factory.mktemp("labelled") / "toy", labelled=True))


@pytest.fixture
def file(toy_adata, tmp_path):
    cells = toy_adata[:200].copy()
    cells.obs["day"] = np.array(["day1", "day2", "lane7", "day3"])[np.arange(200) % 4]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return str(tmp_path / "cells.h5ad")


def test_a_map_from_a_file_and_what_is_printed(file, model, tmp_path, capsys):
    (tmp_path / "map.json").write_text('{"lane7": "day2"}')
    out = str(tmp_path / "out.h5ad")
    words = [
        "integrate",
        file,
        "-m",
        model,
        *RUN,
        "-o",
        out,
        "--batch",
        "day",
        "--batch-map",
        str(tmp_path / "map.json"),
    ]
    assert cli.run(words) == 0
    printed = capsys.readouterr().out
    assert "Statistics of 3 batches (day); each cell has those of its batch:" in printed
    assert "day2        100" in printed
    assert ad.read_h5ad(out).uns["scgpt_infer"]["batch_map"] == "lane7=day2"


def test_the_fallback_is_told(file, model, tmp_path, capsys):
    words = ["integrate", file, "-m", model, *RUN, "-o", str(tmp_path / "out.npy"), "--batch", "day"]
    assert cli.run([*words, "--batch-fallback", "day1", "--batch-statistics", "first"]) == 0
    printed = capsys.readouterr().out
    assert "50 of them are of unknown batches and have those of day1" in printed
    assert "64 cells have those of the first" in printed
    assert "are of another batch than the one whose statistics they have" in printed


def test_zero_shot_says_so(file, toy_model, tmp_path, capsys):
    assert cli.run(["integrate", file, "-m", str(toy_model), *RUN, "-o", str(tmp_path / "out.npy")]) == 0
    assert "no statistics of batches: these are the vectors that embed gives" in capsys.readouterr().out


def test_scores_are_written_and_printed(file, model, tmp_path, capsys, monkeypatch):
    asked = {}

    def scored(methods, before, batches, labels, batch, label):
        asked.update(methods=methods, batches=batches, labels=labels)
        return Scores({name: {"Total": 0.5} for name in methods}, batch, label, len(batches), 4, 1, "0")

    monkeypatch.setattr("scgpt_infer.integration.jobs.check_installed", lambda: None)
    monkeypatch.setattr("scgpt_infer.integration.jobs.check_scorable", lambda *given: None)
    monkeypatch.setattr("scgpt_infer.integration.jobs.score", scored)
    monkeypatch.setattr("scgpt_infer.integration.baselines.components", lambda *given: np.zeros((len(given[1]), 2)))
    monkeypatch.setattr("scgpt_infer.integration.baselines.harmonised", lambda before, batches: before)
    words = ["integrate", file, "-m", model, *RUN, "-o", str(tmp_path / "out.npy"), "--batch", "day"]
    words += ["--batch-fallback", "day1", "--scores", str(tmp_path / "scores.json"), "--label", "kind", "--ignore", "b"]
    assert cli.run(words) == 0
    assert "Total" in capsys.readouterr().out
    told = json.loads((tmp_path / "scores.json").read_text())
    assert list(told["methods"]) == ["X_scGPT", "PCA", "Harmony"]
    assert set(asked["labels"]) == {"a"}
    kept = np.load(tmp_path / "out.npy")[::2]  # cells of kind a
    np.testing.assert_array_equal(asked["methods"]["X_scGPT"], kept[np.isfinite(kept).all(axis=1)])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Nowhere to write"),
        (["-o", "x.npy", "--in-place"], "do not go together"),
        (["-o", "x.npy", "--batch", "day", "--scores", "s.json"], "--scores and --label go together"),
        (["-o", "x.npy", "--batch", "day"], "lane7 (50 cells)"),
        (["-o", "x.npy"], "normalises by batch"),
        (["-o", "x.npy", "--batch", "day", "--batch-map", "none.json"], "cannot be read as JSON"),
    ],
)
def test_bad_usage_is_told_with_exit_code_2(file, model, capsys, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["integrate", file, "-m", model, *RUN, *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "x.npy").exists()
