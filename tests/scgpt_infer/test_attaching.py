"""A result in memory: what the user's object keeps, what an earlier run leaves, and which cells a copy has."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scgpt_infer import EmbedOptions, api, demo
from scgpt_infer.annotating import AnnotateOptions
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import OutputError

FP32 = EmbedOptions(precision="fp32", provider="cpu")


@pytest.fixture(scope="module")
def model():
    with api.Model.open("demo", FP32) as opened:
        yield opened


@pytest.fixture
def cells() -> ad.AnnData:
    return ad.read_h5ad(demo.CELLS)[:8].copy()


def added(cells) -> list[str]:
    return [name for name in cells.obs if name != "cell_type"]


@pytest.mark.parametrize("stored", [False, True])
def test_a_column_of_the_users_is_never_replaced(cells, model, stored, tmp_path, monkeypatch):
    cells.obs["my_label"] = "mine"
    if stored:
        cells.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(Engine, "run", lambda *arguments: pytest.fail("the model was run"))
    with pytest.raises(OutputError, match=r"my_label, which scgpt-infer did not write.*another prefix"):
        model.annotate(tmp_path / "cells.h5ad" if stored else cells, AnnotateOptions(prefix="my_"))
    assert (cells.obs["my_label"] == "mine").all()


@pytest.mark.parametrize("prefix", ["scgpt_", "my_"])
def test_fewer_candidates_leave_none_of_an_earlier_run(cells, model, prefix):
    cells.obs["my_label_by_hand_3"] = "mine"
    model.annotate(cells, AnnotateOptions(prefix=prefix, top=3), inplace=True)
    model.annotate(cells, AnnotateOptions(prefix=prefix, top=1), inplace=True)
    ours = ["label", "confidence", "label_1", "confidence_1"]
    assert added(cells) == ["my_label_by_hand_3", *(f"{prefix}{name}" for name in ours)]


def test_columns_are_ours_whatever_ran_since(cells, model, tmp_path):
    model.annotate(cells, AnnotateOptions(prefix="my_"), inplace=True)
    model.annotate(cells, AnnotateOptions(), inplace=True)
    model.embed(cells, inplace=True)
    model.annotate(cells, AnnotateOptions(prefix="my_", top=2), inplace=True)
    assert "my_label_3" not in cells.obs
    cells.write_h5ad(tmp_path / "cells.h5ad")
    model.annotate_file(tmp_path / "cells.h5ad", tmp_path / "again.h5ad", AnnotateOptions(prefix="my_", top=1))
    assert "my_label_2" not in ad.read_h5ad(tmp_path / "again.h5ad").obs
    assert "my_label_2" not in model.annotate(tmp_path / "cells.h5ad", AnnotateOptions(prefix="my_", top=1)).obs


def test_the_first_cells_of_a_backed_view(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    few = EmbedOptions(precision="fp32", provider="cpu", limit=3)
    found = api.embed(backed[2:7], model="demo", precision="fp32", provider="cpu", limit=3)
    expected = api.annotate(cells[2:7], model="demo", options=few)
    assert found.obs_names.tolist() == cells.obs_names[2:5].tolist()
    np.testing.assert_array_equal(found.obsm["X_scGPT_demo"], expected.obsm["X_scGPT_demo"])
    pd.testing.assert_frame_equal(found.var, cells.var)
    backed.file.close()
