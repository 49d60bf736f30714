"""Cells of several modalities as a request tells them: the bytes are those of the file of the same cells."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer import EmbedOptions
from scgpt_infer.integration import IntegrateOptions
from scgpt_infer.multiomics import MultiomicOptions, multiomic_file
from scgpt_infer.server.calls import answer
from scgpt_infer.server.refusals import Unprocessable
from scgpt_runtime.bundle import Bundle

OPTIONS = EmbedOptions(provider="cpu", precision="fp32")
N_CELLS = 6


@pytest.fixture(scope="module")
def cells(parts) -> ad.AnnData:
    """RNA and proteins side by side, told apart by a column of var."""
    rna, proteins = parts["rna"][:N_CELLS], parts["prot"][:N_CELLS]
    found = ad.AnnData(sparse.csr_matrix(np.hstack([rna.X.toarray(), proteins.X.toarray()])), obs=rna.obs.copy())
    found.var_names = [*rna.var_names, *proteins.var_names]
    found.var["feature_types"] = ["Gene Expression"] * rna.n_vars + ["Antibody Capture"] * proteins.n_vars
    return found


def asked(cells: ad.AnnData, lists: bool) -> list[dict]:
    told, names, types = [], cells.var_names.tolist(), cells.var["feature_types"].tolist()
    for row, name in enumerate(cells.obs_names):
        values = cells.X[row].toarray().ravel().tolist()
        cell: dict = {"cell": name, "obs": {"day": cells.obs["day"].iloc[row]}}
        if lists:
            told.append({**cell, "features": names, "values": values, "feature_types": types})
            continue
        parts: dict[str, dict[str, float]] = {}
        for kind, feature, value in zip(types, names, values, strict=True):
            parts.setdefault(kind, {})[feature] = value
        told.append({**cell, "modalities": parts})
    return told


@pytest.mark.parametrize("lists", [False, True])
def test_the_answer_is_the_file_of_the_command(model, cells, tmp_path, lists):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    how = MultiomicOptions({}, ("CD1", "CD2"), alone=True, batches=IntegrateOptions("day"))
    multiomic_file(tmp_path / "cells.h5ad", tmp_path / "out.json", model, how, OPTIONS)
    body = {"cells": asked(cells, lists), "predict": ["CD1", "CD2"], "alone": True, "batch": "day"}
    assert answer(Bundle.open(model), "multiomic", body, OPTIONS) == (tmp_path / "out.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modalities": {"RNA": {"G1": 1}}, "features": ["G1"]}, r"cells\[0\] has modalities and lists"),
        ({"features": ["G1", "G2"], "values": [1], "feature_types": ["RNA"]}, "2 features, 1 values and 1 feature"),
    ],
)
def test_a_cell_is_told_in_one_way_and_whole(model, change, said):
    with pytest.raises(Unprocessable, match=said):
        answer(Bundle.open(model), "multiomic", {"cells": [change]}, OPTIONS)
