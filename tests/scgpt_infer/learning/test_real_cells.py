"""Ten batches teach types, and cells of another study are told them."""

import json
import os
from pathlib import Path

import pytest

from scgpt_infer import cli

DATA = os.environ.get("SCGPT_INFER_DATA")
NAMES = {
    "Naive CD4 T": ["CD4 T", "MAIT"],
    "Memory CD4 T": ["CD4 T", "MAIT"],
    "CD8 T": ["CD8 T", "MAIT", "gdT"],
    "NK": ["NK", "gdT"],
    "CD14+ Mono": ["Monocyte/myeloid"],
    "FCGR3A+ Mono": ["Non-classical mono"],
    "DC": ["cDC"],
}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="SCGPT_INFER_DATA names no folder of real data")
def test_types_of_another_study(tmp_path, capsys):
    (tmp_path / "names.json").write_text(json.dumps(NAMES))
    run = ["--provider", "cpu", "--precision", "fp32", "--quiet", "--json"]
    words = ["learn", f"{DATA}/pbmc_10batches_3000.h5ad", "--label", "cell_type_coarse", "--by", "batch", *run]
    words += ["--ignore", "pDC", "--exclude", "batch=GSE115189", "--model", "demo", "-o", str(tmp_path / "taught")]
    assert cli.run(words) == 0
    taught = json.loads(capsys.readouterr().out)["taught"]
    assert (taught["groups"], len(taught["classes"]), taught["cells"]) == (9, 9, 2389)
    assert taught["accuracy"] > 0.85
    query = str(Path(str(DATA)) / "pbmc3k_labelled.h5ad")
    words = ["annotate", query, *run, "--model", str(tmp_path / "taught"), "-o", str(tmp_path / "told.csv")]
    assert cli.run([*words, "--truth", "cell_type", "--names", str(tmp_path / "names.json")]) == 0
    told = json.loads(capsys.readouterr().out)["evaluation"]
    assert told["judged"] == 2638 - 14
    assert told["accuracy_of_known"] > 0.9
    assert [found["label"] for found in told["unanswerable"]] == ["Platelet"]
