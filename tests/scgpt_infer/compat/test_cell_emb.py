"""`embed_data`, the original's signature: the same return, and the original's own vectors where nothing is drawn."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scgpt_infer as si
from scgpt_infer.compat import CompatWarning, embed_data
from scgpt_runtime.errors import CellsError, OptionError

OF_DEMO = "X_scGPT holds vectors of the model demo, which are not scGPT's"

pytestmark = [pytest.mark.usefixtures("on_cpu"), pytest.mark.filterwarnings(f"ignore:{OF_DEMO}")]


@pytest.fixture
def reference(adata) -> np.ndarray:
    return si.embed(adata, model="demo", provider="cpu", max_length=1200).obsm["X_scGPT_demo"]


def test_cells_come_back_with_their_vectors_and_the_genes_that_are_known(adata, reference, vocabulary):
    before = adata.copy()
    found = embed_data(adata, "demo", gene_col="symbol")
    np.testing.assert_array_equal(found.obsm["X_scGPT"], reference)
    assert found.shape == (12, 80)
    assert [vocabulary.tokens[token] for token in found.var["id_in_vocab"]] == list(found.var_names)
    np.testing.assert_array_equal(found.X.toarray(), before[:, :80].X.toarray())
    assert found.uns["scgpt_infer"]["model"] == "demo"
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert not adata.obsm
    found.obs.loc["cell-0", "batch"] = "z"
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_a_file_is_read_and_the_index_will_do_for_names(adata, reference, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for path in (tmp_path / "cells.h5ad", str(tmp_path / "cells.h5ad")):
        np.testing.assert_array_equal(embed_data(path, "demo", gene_col="index").obsm["X_scGPT"], reference)


def test_a_view_of_a_backed_object_will_do(adata, reference, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    found = embed_data(backed[3:9], "demo", gene_col="index")
    np.testing.assert_array_equal(found.obsm["X_scGPT"], reference[3:9])
    assert found.shape == (6, 80)
    backed.file.close()


@pytest.mark.parametrize(
    ("asked", "kept"), [(None, []), ("batch", ["batch"]), (["depth", "batch"], ["depth", "batch"])]
)
def test_a_new_adata_has_vectors_for_x_and_the_columns_that_were_named(adata, reference, asked, kept):
    found = embed_data(adata, "demo", "index", 1200, 64, asked, "cpu", False, True)
    np.testing.assert_array_equal(found.X, reference)
    assert list(found.obs.columns) == kept
    for name in kept:
        assert list(found.obs[name]) == list(adata.obs[name])
    assert list(found.obs_names) == list(adata.obs_names)


def test_a_column_that_is_not_there_is_named_before_anything_is_computed(adata, monkeypatch):
    monkeypatch.setattr("scgpt_infer.compat.cell_emb.through", lambda *_: pytest.fail("computed"))
    with pytest.raises(CellsError, match="no gene column 'feature_name'; it has symbol, index"):
        embed_data(adata, "demo")
    with pytest.raises(OptionError, match="obs has no column 'donor' of obs_to_save; it has batch, depth"):
        embed_data(adata, "demo", "index", obs_to_save=["batch", "donor"])


def test_the_longest_cell_can_be_chosen(adata, reference):
    found = embed_data(adata, "demo", gene_col="index", max_length=20).obsm["X_scGPT"]
    shorter = si.embed(adata, model="demo", provider="cpu", max_length=20).obsm["X_scGPT_demo"]
    np.testing.assert_array_equal(found, shorter)
    assert np.abs(found - reference).max() > 1e-3


def test_x_is_read_even_where_there_are_counts_elsewhere(adata, reference):
    adata.layers["counts"] = adata.X[::-1].copy()
    np.testing.assert_array_equal(embed_data(adata, "demo", "index").obsm["X_scGPT"], reference)


def test_a_cell_without_counts_is_nan_and_told(with_empty, reference):
    with pytest.warns(CompatWarning, match="1 of 12 cells have no vector"):
        found = embed_data(with_empty, "demo", "index").obsm["X_scGPT"]
    assert np.isnan(found[3]).all()
    np.testing.assert_allclose(np.delete(found, 3, 0), np.delete(reference, 3, 0), atol=1e-6)


def test_other_files_are_sent_elsewhere():
    with pytest.raises(CellsError, match=r"cells\.loom is no \.h5ad file"):
        embed_data("cells.loom", "demo")


def test_the_demo_under_scgpts_own_name_is_told(adata):
    with pytest.warns(CompatWarning, match=OF_DEMO) as warned:
        embed_data(adata, "demo", "index")
    assert warned[0].filename == __file__


@pytest.mark.slow
def test_a_checkpoint_gives_the_originals_vectors_where_the_original_draws_nothing(golden_files):
    golden = np.load(golden_files / "embed_small_continuous.npz")
    cells = ad.AnnData(golden["X"].astype(np.float32))
    cells.var["feature_name"] = golden["genes"].astype(str)
    found = embed_data(cells, golden_files / "small_checkpoint", device="cpu").obsm["X_scGPT"]
    np.testing.assert_allclose(found, golden["emb"], atol=1e-6)
