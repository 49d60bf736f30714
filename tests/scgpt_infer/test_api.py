"""The calls end to end on a toy model: what a user gets, and what stays as it was."""

import json
import os
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scgpt_infer as si
import toy_bundle
from scgpt_infer import api, output
from scgpt_infer.preview import Disk
from scgpt_runtime.errors import CellsError, GenesError, OptionError, OutputError

EMPTY_CELL = 5


@pytest.fixture
def reference(toy_adata, toy_model) -> np.ndarray:
    return si.embed(toy_adata, model=toy_model).obsm["X_scGPT"]


def same_cells(one: ad.AnnData, other: ad.AnnData) -> bool:
    return (
        np.array_equal(one.X.toarray(), other.X.toarray())
        and one.obs.equals(other.obs)
        and list(one.obsm) == list(other.obsm)
        and list(one.uns) == list(other.uns)
    )


def test_a_copy_comes_back_with_unit_vectors_and_the_callers_object_is_not_touched(toy_adata, toy_model):
    before = toy_adata.copy()
    result = si.embed(toy_adata, model=toy_model)
    vectors = result.obsm["X_scGPT"]
    assert vectors.dtype == np.float32
    assert vectors.shape == (1100, toy_bundle.DIM)
    good = np.arange(1100) != EMPTY_CELL
    np.testing.assert_allclose(np.linalg.norm(vectors[good], axis=1), 1, rtol=1e-6)
    assert np.isnan(vectors[EMPTY_CELL]).all()
    assert same_cells(toy_adata, before)
    result.X[0, 0] = 99
    result.obs.loc["cell-0", "kind"] = "b"
    assert same_cells(toy_adata, before)


def test_cells_without_an_embedding_are_told_where_no_summary_is(toy_adata, toy_model, caplog):
    si.embed(toy_adata, model=toy_model)
    assert "1 of 1100 cells have no embedding (NaN); the first is cell-5: all values are zero" in caplog.text


def test_uns_says_how_the_vectors_were_made_and_can_be_written(toy_adata, toy_model, tmp_path):
    result = si.embed(toy_adata, model=toy_model, seed=3)
    record = result.uns["scgpt_infer"]
    assert record["model"] == "toy"
    assert record["seed"] == 3
    assert record["n_without_embedding"] == 1
    assert record["counts"] == "X"
    assert record["match_fraction"] == pytest.approx(60 / 70)
    assert record["version"] == si.__version__
    with si.Model.open(toy_model, si.EmbedOptions(seed=3)) as model:
        assert record["vector_id"] == model.vector_id
    result.write_h5ad(tmp_path / "out.h5ad")
    assert dict(ad.read_h5ad(tmp_path / "out.h5ad").uns["scgpt_infer"]) == record


def test_inplace_gives_the_callers_object_itself(toy_adata, toy_model, reference):
    x = toy_adata.X
    assert si.embed(toy_adata, model=toy_model, inplace=True) is toy_adata
    assert toy_adata.X is x
    np.testing.assert_array_equal(toy_adata.obsm["X_scGPT"], reference)


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_a_path_is_read_into_memory_and_the_file_stays(toy_h5ad, toy_model, reference, kind):
    before = toy_h5ad.read_bytes()
    result = si.embed(kind(toy_h5ad), model=str(toy_model))
    np.testing.assert_array_equal(result.obsm["X_scGPT"], reference)
    assert toy_h5ad.read_bytes() == before


def test_views_and_backed_objects_give_the_rows_they_show(toy_adata, toy_h5ad, toy_model, reference):
    rows = np.arange(1099, 0, -7)
    np.testing.assert_array_equal(si.embed(toy_adata[rows], model=toy_model).obsm["X_scGPT"], reference[rows])
    backed = ad.read_h5ad(toy_h5ad, backed="r")
    np.testing.assert_array_equal(si.embed(backed, model=toy_model).obsm["X_scGPT"], reference)
    part = si.embed(backed[20:40], model=toy_model)
    np.testing.assert_array_equal(part.obsm["X_scGPT"], reference[20:40])
    assert not part.isbacked
    assert "X_scGPT" not in backed.obsm
    backed.file.close()


def test_the_vector_of_a_cell_is_the_same_whatever_is_around_it(toy_adata, toy_model, reference):
    genes = np.random.default_rng(0).permutation(70)
    shuffled = si.embed(toy_adata[::-1, genes], model=toy_model).obsm["X_scGPT"][::-1]
    np.testing.assert_allclose(shuffled, reference, atol=1e-6)


@pytest.mark.parametrize("suffix", ["h5ad", "npy", "parquet", "csv"])
def test_every_format_holds_the_vectors_that_memory_holds(toy_h5ad, toy_model, tmp_path, reference, suffix):
    path = tmp_path / f"out.{suffix}"
    summary = si.embed_file(toy_h5ad, path, str(toy_model))
    read = {
        "h5ad": lambda: ad.read_h5ad(path).obsm["X_scGPT"],
        "npy": lambda: np.load(path),
        "parquet": lambda: np.stack(pd.read_parquet(path)["embedding"]),
        "csv": lambda: pd.read_csv(path, index_col="cell").drop(columns="error").to_numpy(np.float32),
    }
    np.testing.assert_array_equal(read[suffix](), reference)
    assert summary.output == str(path)
    assert (summary.n_cells, summary.n_embedded) == (1100, 1099)
    assert [(cell.row, cell.name) for cell in summary.bad] == [(EMPTY_CELL, "cell-5")]
    assert set(summary.seconds) == {"read", "tokenise", "queue", "infer", "write"}


def test_a_file_is_the_input_plus_the_embedding(toy_h5ad, toy_model, tmp_path, toy_adata):
    si.embed_file(toy_h5ad, tmp_path / "out.h5ad", toy_model)
    read = ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(read.X.toarray(), toy_adata.X.toarray())
    pd.testing.assert_frame_equal(read.obs, toy_adata.obs)
    assert read.uns["scgpt_infer"]["n_cells"] == 1100


def test_in_place_adds_to_the_file_through_a_link(toy_h5ad, toy_model, tmp_path, reference):
    (tmp_path / "link.h5ad").symlink_to(toy_h5ad)
    si.embed_file(tmp_path / "link.h5ad", None, toy_model, si.EmbedOptions(in_place=True))
    assert (tmp_path / "link.h5ad").is_symlink()
    np.testing.assert_array_equal(ad.read_h5ad(toy_h5ad).obsm["X_scGPT"], reference)


def test_one_model_embeds_many_and_says_what_it_makes(toy_adata, toy_h5ad, toy_model, tmp_path, reference):
    with si.Model.open(toy_model) as model:
        for _ in range(2):
            np.testing.assert_array_equal(model.embed(toy_adata).obsm[model.key], reference)
        first = model.embed_file(toy_h5ad, tmp_path / "a.npy")
        second = model.embed_file(toy_h5ad, tmp_path / "b.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert first.vector_id == second.vector_id == model.vector_id
    assert second.seconds["infer"] <= second.wall_seconds


def test_a_closed_model_says_to_open_it_again(toy_adata, toy_h5ad, toy_model, tmp_path):
    with si.Model.open(toy_model) as model:
        pass
    for call in (
        lambda: model.embed(toy_adata),
        lambda: model.embed_file(toy_h5ad, tmp_path / "x.npy"),
        lambda: model.preview(toy_h5ad),
    ):
        with pytest.raises(OptionError, match=r"closed.*Open it again"):
            call()


def test_a_closed_model_opens_nothing_that_nobody_would_close(toy_model):
    model = si.Model.open(toy_model, when_needed=True)
    model.close()
    with pytest.raises(OptionError, match=r"closed.*Open it again"):
        _ = model.vector_id


def test_key_and_limit_do_what_they_say(toy_adata, toy_h5ad, toy_model, tmp_path, reference):
    result = si.embed(toy_adata, model=toy_model, key="X_mine", limit=7)
    assert result.n_obs == 7
    np.testing.assert_array_equal(result.obsm["X_mine"], reference[:7])
    assert si.embed(toy_h5ad, model=toy_model, limit=7).n_obs == 7
    summary = si.embed_file(toy_h5ad, tmp_path / "x.npy", toy_model, si.EmbedOptions(limit=7))
    assert (summary.n_cells, len(np.load(tmp_path / "x.npy"))) == (7, 7)
    assert si.embed(toy_adata, model=toy_model, limit=5000).n_obs == 1100


def test_what_others_keep_under_a_key_is_not_replaced(toy_adata, toy_h5ad, toy_model, tmp_path):
    before = toy_h5ad.read_bytes()

    def began(done, total):
        pytest.fail("began")

    in_place = si.EmbedOptions(key="X_pca", in_place=True)
    with pytest.raises(OptionError, match=r"obsm already has X_pca.*another name"):
        si.embed_file(toy_h5ad, None, toy_model, in_place, began)
    with pytest.raises(OptionError, match="obsm already has X_pca"):
        si.embed_file(toy_h5ad, tmp_path / "x.h5ad", toy_model, si.EmbedOptions(key="X_pca"), began)
    with pytest.raises(OptionError, match="obsm already has X_pca"):
        api.preview(toy_h5ad, None, toy_model, in_place)
    for cells in (toy_adata, toy_h5ad):
        with pytest.raises(OptionError, match="obsm already has X_pca"):
            si.embed(cells, model=toy_model, key="X_pca")
    assert toy_h5ad.read_bytes() == before
    si.embed_file(toy_h5ad, tmp_path / "x.npy", toy_model, si.EmbedOptions(key="X_pca"))  # has no obsm


def test_an_embedding_of_ours_is_replaced_under_any_key(toy_adata, toy_h5ad, toy_model):
    options = si.EmbedOptions(key="mine", in_place=True)
    for _ in range(2):
        si.embed_file(toy_h5ad, None, toy_model, options)
        si.embed(toy_adata, model=toy_model, key="mine", inplace=True)


def test_a_model_names_its_own_key(toy_adata, tmp_path):
    demo = toy_bundle.write(tmp_path / "demo", key="X_scGPT_demo")
    result = si.embed(toy_adata, model=demo)
    assert "X_scGPT_demo" in result.obsm
    assert "X_scGPT" not in result.obsm


def test_what_changes_vectors_changes_their_id(toy_model):
    ids = set()
    for options in ({}, {"seed": 8}, {"max_length": 20}, {"ties": "one-sided"}, {"sample": "top"}, {"genes": "alias"}):
        with si.Model.open(toy_model, si.EmbedOptions(**options)) as model:
            ids.add(model.vector_id)
    assert len(ids) == 6
    with si.Model.open(toy_model, si.EmbedOptions(batch_tokens=100, threads=1)) as model:
        assert model.vector_id in ids


def test_the_summary_is_json_without_nan_and_lists_a_thousand_bad_rows_at_most(toy_adata, toy_model, tmp_path):
    many = ad.concat([toy_adata] * 2, index_unique="-")
    dense = many.X.toarray()
    dense[10:1500] = 0
    many.X = dense
    many.layers.clear()
    many.write_h5ad(tmp_path / "in.h5ad")
    summary = si.embed_file(tmp_path / "in.h5ad", tmp_path / "out.npy", toy_model)
    told = json.loads(summary.to_json(), parse_constant=lambda word: pytest.fail(word))
    assert (summary.n_bad, len(summary.bad)) == (1491, 1000)
    assert (len(told["bad"]), told["n_bad"]) == (1000, 1491)
    assert told["reasons"] == {"all values are zero": 1491}
    assert told["bad"][0] == {"row": 5, "name": "cell-5-0", "reason": "all values are zero"}


def test_progress_is_told_cells_done_and_in_all(toy_h5ad, toy_model, tmp_path):
    told = []
    si.embed_file(toy_h5ad, tmp_path / "x.npy", toy_model, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1100, 1100)
    assert sorted(told) == told


def test_a_job_in_which_every_cell_is_bad_writes_nothing(toy_adata, toy_model, tmp_path):
    strangers = np.zeros((20, 70), np.float32)
    strangers[:, 69] = 1  # G69, which the model does not know
    cells = ad.AnnData(strangers, obs=toy_adata.obs[:20], var=toy_adata.var)
    cells.write_h5ad(tmp_path / "in.h5ad")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(CellsError, match=r"None of the 20 cells.*20 x none of its expressed genes"):
        si.embed_file(tmp_path / "in.h5ad", out / "x.h5ad", toy_model)
    with pytest.raises(CellsError, match="None of the 20 cells"):
        si.embed(cells, model=toy_model, inplace=True)
    assert "X_scGPT" not in cells.obsm
    assert os.listdir(out) == []


def test_ctrl_c_leaves_no_partial_file(toy_h5ad, toy_model, tmp_path):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    out.mkdir()
    for name in ("x.h5ad", "x.npy", "x.parquet", "x.csv"):
        with pytest.raises(KeyboardInterrupt):
            si.embed_file(toy_h5ad, out / name, toy_model, progress=interrupt)
    assert os.listdir(out) == []


def test_the_output_is_looked_at_before_the_model_is_opened(toy_h5ad, tmp_path):
    with pytest.raises(OutputError, match="suffix"):
        si.embed_file(toy_h5ad, tmp_path / "x.txt", "no-such-model")
    with pytest.raises(OutputError, match="does not exist"):
        si.embed_file(toy_h5ad, tmp_path / "missing" / "x.npy", "no-such-model")


def test_the_cells_are_looked_at_before_the_model_is_opened(tmp_path):
    with pytest.raises(CellsError, match="no file"):
        si.embed_file(tmp_path / "none.h5ad", tmp_path / "x.npy", "no-such-model")
    with pytest.raises(CellsError, match="no file"):
        si.embed(tmp_path / "none.h5ad", model="no-such-model")


def test_a_full_disk_is_seen_before_the_first_cell(toy_h5ad, toy_model, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "disk", lambda target, parts=0: Disk(10**12, 10**9))
    with pytest.raises(OutputError, match=r"1\.0 TB"):
        si.embed_file(toy_h5ad, tmp_path / "x.npy", toy_model, progress=lambda done, total: pytest.fail("began"))


def test_genes_that_the_model_does_not_know_are_an_error(toy_adata, toy_model):
    toy_adata.var_names = [f"Other{i}" for i in range(70)]
    with pytest.raises(GenesError):
        si.embed(toy_adata, model=toy_model)


def test_a_gene_column_of_any_name_can_be_asked_for(toy_adata, toy_model, reference):
    toy_adata.var["mine"] = list(toy_adata.var_names)
    toy_adata.var_names = [f"Other{i}" for i in range(70)]
    result = si.embed(toy_adata, model=toy_model, gene_col="mine")
    np.testing.assert_array_equal(result.obsm["X_scGPT"], reference)
    assert result.uns["scgpt_infer"]["gene_col"] == "mine"


def test_what_does_not_go_together_is_refused(toy_adata, toy_h5ad, toy_model):
    with pytest.raises(OptionError, match="path"):
        si.embed(toy_h5ad, model=toy_model, inplace=True)
    with pytest.raises(OptionError, match="limit and inplace"):
        si.embed(toy_adata, model=toy_model, inplace=True, limit=3)
    with pytest.raises(OptionError, match=r"is a view.*copy"):
        si.embed(toy_adata[:10], model="no-such-model", inplace=True)
    with pytest.raises(OptionError, match="model is 3; expected a name or a path"):
        si.embed(toy_adata, model=3)
    with pytest.raises(TypeError):
        si.embed(toy_adata)  # the model is always named


def test_preview_and_run_agree(toy_h5ad, toy_model, tmp_path):
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model)
    summary = si.embed_file(toy_h5ad, tmp_path / "x.npy", toy_model)
    for name in ("model", "vector_id", "key", "dim", "n_cells", "n_matched", "counts", "values", "provider", "output"):
        assert getattr(preview, name) == getattr(summary, name)


def test_embedding_is_silent(toy_adata, toy_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        si.embed(toy_adata[:10], model=toy_model)
