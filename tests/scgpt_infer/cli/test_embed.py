"""``scgpt-infer embed`` as a user runs it: files, words on both streams, exit codes."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer import cli
from scgpt_infer.cli.embed import command
from scgpt_infer.options import EmbedOptions
from scgpt_infer.work import WorkOptions


def embed(*words: object) -> int:
    return cli.run(["embed", *map(str, words)])


def test_the_options_are_those_of_the_api_with_the_same_defaults():
    own = {"cells", "model", "output", "dry_run", "quiet", "as_json"}
    parsed = command.make_context("embed", ["cells.h5ad", "--model", "demo"]).params
    options = {name: value for name, value in parsed.items() if name not in own}
    fields = [*dataclasses.fields(EmbedOptions), *dataclasses.fields(WorkOptions)]
    assert options == {field.name: field.default for field in fields if field.name in options}
    assert {field.name for field in fields} == set(options)


def test_a_file_is_embedded_and_said_to_be(toy_model, toy_h5ad, tmp_path, capsys):
    assert embed(toy_h5ad, "--model", toy_model, "-o", tmp_path / "out.h5ad") == 0
    vectors = ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scGPT"]
    assert vectors.dtype == np.float32
    printed = capsys.readouterr()
    assert "1,099 of 1,100 cells embedded" in printed.out
    assert "row 5 (cell-5): all values are zero" in printed.out
    assert "1,100 of 1,100 cells" in printed.err
    assert "embedded" not in printed.err


def test_json_is_the_only_thing_on_standard_output(toy_model, toy_h5ad, tmp_path, capsys):
    assert embed(toy_h5ad, "--model", toy_model, "-o", tmp_path / "out.npy", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["n_cells"] == 1100
    assert summary["bad"] == [{"row": 5, "name": "cell-5", "reason": "all values are zero"}]


def test_quiet_says_nothing_but_what_went_wrong(toy_model, toy_h5ad, tmp_path, capsys):
    assert embed(toy_h5ad, "--model", toy_model, "-o", tmp_path / "out.npy", "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cell-5" in printed.err
    assert embed(toy_h5ad, "--model", toy_model, "-o", tmp_path / "out2.npy", "--quiet", "--limit", 5) == 0
    assert capsys.readouterr() == ("", "")


def test_of_many_bad_cells_the_first_ten_are_named(toy_model, toy_adata, tmp_path, capsys):
    toy_adata.X = sparse.csr_matrix(toy_adata.X.toarray() * (np.arange(1100) >= 30)[:, None])
    toy_adata.write_h5ad(tmp_path / "in.h5ad")
    assert embed(tmp_path / "in.h5ad", "--model", toy_model, "-o", tmp_path / "out.npy") == 0
    out = capsys.readouterr().out
    assert "30 cells have no embedding" in out
    assert "row 9 (cell-9)" in out
    assert "row 10 (cell-10)" not in out
    assert "and 20 more" in out


def test_a_dry_run_writes_nothing(toy_model, toy_h5ad, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert embed(toy_h5ad, "--model", toy_model, "-o", tmp_path / "out.h5ad", "--dry-run") == 0
    assert "cells/s" in capsys.readouterr().out
    assert embed(toy_h5ad, "--model", toy_model, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_cells"] == 1100
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_looks_at_the_whole_command(toy_model, toy_h5ad, tmp_path, capsys):
    words = (toy_h5ad, "--model", toy_model, "-o", tmp_path / "out.npy")
    assert embed(*words, "--shard", "0/2", "--quiet") == 0
    capsys.readouterr()
    assert embed(*words, "--dry-run", "--json", "--shard", "0/2", "--memory", "64GiB") == 0
    told = json.loads(capsys.readouterr().out)
    asked = {name: told[name] for name in ("shard", "n_cells", "kept", "memory", "workers")}
    assert asked == {"shard": "0/2", "n_cells": 1024, "kept": 1024, "memory": 64 * 2**30, "workers": None}
    assert told["seconds"] == 0
    assert embed(*words, "--dry-run", "--workers", 2) == 0
    out = capsys.readouterr().out
    assert "1,024 of 1,100 cells are kept already" in out
    assert "workers    2 processes" in out
    for refused in (("--memory", "1MB"), ("--seed", 12)):
        assert embed(*words, "--dry-run", *refused) == 2
        assert embed(*words, *refused) == 2


def test_the_model_may_come_from_the_environment(toy_model, toy_h5ad, tmp_path, monkeypatch):
    monkeypatch.setenv("SCGPT_INFER_MODEL", str(toy_model))
    assert embed(toy_h5ad, "-o", tmp_path / "out.npy") == 0
    assert (tmp_path / "out.npy").exists()


def test_a_model_is_required(toy_h5ad, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SCGPT_INFER_MODEL", raising=False)
    assert embed(toy_h5ad, "-o", tmp_path / "out.npy") == 2
    assert "SCGPT_INFER_MODEL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Nowhere to write"),
        (("-o", "out.h5ad", "--in-place"), "do not go together"),
        (("-o", "out.xyz"), ".xyz"),
        (("-o", "out.h5ad", "--layer", "nonsense"), "nonsense"),
        (("-o", "out.h5ad", "--gene-col", "nonsense"), "nonsense"),
        (("-o", "out.h5ad", "--precision", "int8"), "export again with fp32, fp16 or int8"),
        (("--in-place", "--limit", "5"), "--limit and --in-place"),
        (("-o", "out.npy", "--obs-only"), "--obs-only"),
        (("-o", "out.h5ad", "--precision", "int8"), "int8"),
        (("-o", "out.h5ad", "--threads", "0"), "threads"),
        (("-o", "nowhere/out.h5ad"), "nowhere"),
    ],
)
def test_a_usage_error_is_told_without_a_traceback(toy_model, toy_h5ad, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    assert embed(toy_h5ad, "--model", toy_model, *words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert "Traceback" not in printed.err
    assert not list(tmp_path.glob("out*"))


def test_a_bundle_with_a_changed_byte_is_refused(toy_model, toy_h5ad, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in toy_model.rglob("*"):
        target = damaged / file.relative_to(toy_model)
        target.mkdir(exist_ok=True) if file.is_dir() else target.write_bytes(file.read_bytes())
    vocabulary = damaged / "vocab.json"
    vocabulary.write_bytes(vocabulary.read_bytes().replace(b"G1", b"G2", 1))
    assert embed(toy_h5ad, "--model", damaged, "-o", tmp_path / "out.npy") == 2
    assert "vocab.json" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_an_interrupted_job_leaves_what_is_done_and_goes_on_from_there(toy_model, toy_adata, tmp_path, number, code):
    many = ad.AnnData(sparse.vstack([toy_adata.X] * 60, format="csr"), var=toy_adata.var)
    many.write_h5ad(tmp_path / "many.h5ad")
    words = ["embed", str(tmp_path / "many.h5ad"), "--model", str(toy_model), "-o", str(tmp_path / "out" / "out.h5ad")]
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "scgpt_infer",
            *words,
            "--batch-tokens",
            "24",
            "--provider",
            "cpu",
            "--precision",
            "fp32",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("embed  0 of 66,000")
    time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    if number == signal.SIGINT:  # it may have come before the first part
        assert not (tmp_path / "out" / "out.h5ad").exists()
        return
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["out.h5ad.parts"]
    assert "of 66,000 cells are done and kept" in err
    again = subprocess.run(process.args, stderr=subprocess.PIPE, text=True, timeout=120, check=True)
    assert not again.stderr.startswith("embed  0 of 66,000")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".csv"] == ["out.h5ad"]


def test_tie_free_cells_come_out_as_from_the_original(tiny_bundle: Path, golden_files: Path, tmp_path: Path):
    golden = np.load(golden_files / "embed_small_continuous.npz")
    cells = ad.AnnData(sparse.csr_matrix(golden["X"]), var=pd.DataFrame(index=golden["genes"]))
    cells.write_h5ad(tmp_path / "in.h5ad")
    told = ("--model", tiny_bundle, "-o", tmp_path / "out.h5ad", "--precision", "fp32")
    for provider in ("cpu", "openvino"):
        assert embed(tmp_path / "in.h5ad", *told, "--provider", provider) == 0
        vectors = ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scGPT"]
        assert np.abs(vectors - golden["emb"]).max() < 1e-5
