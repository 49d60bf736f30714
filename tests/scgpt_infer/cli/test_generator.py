"""A perturbation generator by command: exported, shown, proven on this machine, and refused where it cannot answer."""

import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest

from scgpt_infer import cli
from tests import generator_folder


@pytest.fixture(scope="module")
def generator_bundle(tmp_path_factory):
    """Exported by the command from a folder with args.json, vocab.json and best_model.pt."""
    folder = tmp_path_factory.mktemp("generator")
    checkpoint = generator_folder.write(folder / "checkpoint")
    assert cli.run(["export", str(checkpoint), "-o", str(folder / "bundle"), "--precision", "fp32", "-q"]) == 0
    return folder / "bundle"


def test_inspect_says_what_it_makes_of_cells(generator_bundle, capsys):
    assert cli.run(["inspect", str(generator_bundle)]) == 0
    out = capsys.readouterr().out
    assert "profiles    of cells after a perturbation" in out
    assert "all genes of a cell, expressed or not" in out
    assert "perturb      fp32  portable, opset 20: ids, values, flags -> value, cell" in out
    assert "embeddings" not in out


def test_verify_proves_its_profiles(generator_bundle, capsys):
    assert cli.run(["verify", str(generator_bundle), "--provider", "cpu"]) == 0
    assert "tokens equal; half the squared relative error" in capsys.readouterr().out
    assert cli.run(["verify", str(generator_bundle), "--provider", "cpu", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["passed"]
    assert result["worst"] < 1e-9


def test_a_damaged_bundle_is_refused(generator_bundle, tmp_path, capsys):
    copy = tmp_path / "bundle"
    shutil.copytree(generator_bundle, copy)
    with (copy / "golden.npz").open("r+b") as file:
        file.seek(500)
        file.write(b"\xff" * 8)
    assert cli.run(["verify", str(copy)]) == 2
    assert "golden.npz" in capsys.readouterr().err


def test_what_it_cannot_answer_is_refused_with_what_it_can(generator_bundle, tmp_path, capsys):
    cells = anndata.AnnData(np.ones((2, 3), np.float32), var=pd.DataFrame(index=["g1", "g2", "g3"]))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    words = ["embed", str(tmp_path / "cells.h5ad"), "--model", str(generator_bundle), "-o", str(tmp_path / "x.npy")]
    assert cli.run(words) == 2
    assert "perturb" in capsys.readouterr().err
