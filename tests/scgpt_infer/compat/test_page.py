"""The code of docs/compat.md runs as it stands there, and the model card's example with its import changed."""

import os
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scgpt_infer.compat import CompatWarning

PAGE = Path(__file__).parents[3] / "docs" / "compat.md"

OLDER_CARD = """
from scgpt_infer.compat import scGPT, scGPTConfig
import anndata as ad

model_config = scGPTConfig(batch_size=10)
scgpt = scGPT(model_config=model_config)
adata = ad.read_h5ad("dataset.h5ad")
data = scgpt.process_data(adata)
embeddings = scgpt.get_embeddings(data)
print(embeddings.shape)
"""


@pytest.fixture
def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(adata, tmp_path, monkeypatch) -> Path:
    adata.var["feature_name"] = adata.var["symbol"]
    adata.write_h5ad(tmp_path / "dataset.h5ad")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_cards_example_runs_with_another_import(blocks, folder, capsys):
    (first, *_) = blocks
    assert first.startswith("from scgpt_infer.compat import scGPT, scGPTConfig\n")
    for example in (first, OLDER_CARD):
        with pytest.warns(CompatWarning, match="No model was named"):
            exec(example, {})
        assert capsys.readouterr().out == "(12, 64)\n"


def test_the_originals_example_runs_with_another_import(blocks, folder, on_cpu):
    (example,) = (block for block in blocks if "embed_data(" in block)
    assert '"scGPT_human"' in example
    found: dict[str, ad.AnnData] = {}
    with pytest.warns(CompatWarning, match="X_scGPT holds vectors of the model demo"):
        exec(example.replace('"scGPT_human"', '"demo"'), found)
    assert found["adata"].obsm["X_scGPT"].shape == (12, 64)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif("SCGPT_INFER_DATA" not in os.environ, reason="SCGPT_INFER_DATA names no folder of real data sets")
def test_the_cards_example_on_real_cells(blocks, tmp_path, monkeypatch):
    cells = Path(os.environ["SCGPT_INFER_DATA"]) / "pbmc3k_labelled.h5ad"
    (tmp_path / "dataset.h5ad").symlink_to(cells)
    monkeypatch.chdir(tmp_path)
    found: dict[str, np.ndarray] = {}
    with pytest.warns(CompatWarning, match="No model was named"):
        exec(blocks[0], found)
    embeddings, labels = found["embeddings"], ad.read_h5ad(cells).obs["cell_type"].to_numpy()
    assert embeddings.shape == (2638, 64)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    likeness = embeddings @ embeddings.T
    np.fill_diagonal(likeness, -2)
    assert np.mean(labels[likeness.argmax(axis=1)] == labels) > 0.75
