"""What embed and annotate write as JSON keeps to the schema and holds what the other formats hold."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from jsonschema import Draft202012Validator

import scgpt_infer
from scgpt_infer import AnnotateOptions, EmbedOptions, demo, schema

NAMES = ['quote"', "back\\slash", "new\nline\u2028", "ünï 細胞", "</script>", "twice", "twice"]


@pytest.fixture
def hostile(toy_adata: ad.AnnData, tmp_path: Path) -> Path:
    toy_adata.obs_names = [*NAMES, *toy_adata.obs_names[len(NAMES) :]]
    toy_adata.write_h5ad(tmp_path / "hostile.h5ad")
    return tmp_path / "hostile.h5ad"


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_embeddings_are_those_of_other_formats_whatever_the_names(hostile: Path, toy_model: Path, tmp_path: Path):
    for output in ("x.json", "x.jsonl", "x.npy"):
        scgpt_infer.embed_file(hostile, tmp_path / output, model=toy_model)
    document = json.loads((tmp_path / "x.json").read_text())
    Draft202012Validator(schema.schema()).validate(document)
    cells = document["cells"]
    assert [cell["cell"] for cell in cells[: len(NAMES)]] == NAMES
    assert [cell["error"] for cell in cells if cell["error"]] == ["all values are zero"]
    expected = np.load(tmp_path / "x.npy")
    told = np.array([cell["embedding"] or [np.nan] * expected.shape[1] for cell in cells]).astype(np.float32)
    np.testing.assert_array_equal(told, expected)
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()] == cells
    beside = json.loads((tmp_path / "x.jsonl.json").read_text())
    Draft202012Validator(schema.line_schema("about")).validate(beside)
    assert beside["run"] == document["run"]


def test_cell_types_are_those_of_the_table(tmp_path: Path):
    cells = ad.read_h5ad(demo.CELLS)[:32].copy()
    cells.X = cells.X.toarray() * (np.arange(32) != 3)[:, None]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    options, how = EmbedOptions(provider="cpu", precision="fp32"), AnnotateOptions(unknown_below=0.8)
    for output in ("x.json", "x.h5ad"):
        scgpt_infer.annotate_file(tmp_path / "cells.h5ad", tmp_path / output, "demo", options, how)
    document = json.loads((tmp_path / "x.json").read_text())
    Draft202012Validator(schema.schema()).validate(document)
    obs = ad.read_h5ad(tmp_path / "x.h5ad").obs
    told = document["cells"]
    assert [cell["label"] for cell in told] == [None if label != label else label for label in obs["scgpt_label"]]
    assert told[3]["error"]
    assert {"unknown"} < {cell["label"] for cell in told if cell["label"]}
    for rank in range(3):
        best = [cell["candidates"][rank] for cell in told if not cell["error"]]
        rows = obs[obs["scgpt_label"].notna()]
        assert [one["label"] for one in best] == list(rows[f"scgpt_label_{rank + 1}"])
        sure = np.array([one["confidence"] for one in best]).astype(np.float32)
        assert sure.tobytes() == rows[f"scgpt_confidence_{rank + 1}"].to_numpy().tobytes()
