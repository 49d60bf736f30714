"""The wrapper's calls on the demo model: what comes back, and what stays as it was."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scgpt_infer as si
import toy_bundle
from scgpt_infer import models
from scgpt_infer.compat import CompatWarning, scGPT, scGPTConfig
from scgpt_infer.compat.dataset import Dataset
from scgpt_infer.spans import grid
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import CellsError, GenesError, OptionError

EMPTY = 3

pytestmark = pytest.mark.usefixtures("on_cpu")


def demo(**fields) -> scGPT:
    return scGPT(scGPTConfig(model="demo", **fields))


def embedded(adata, **fields):
    model = demo(**fields)
    return model.get_embeddings(model.process_data(adata))


def hidden_states(adata) -> list[np.ndarray]:
    """Hidden states of each cell's genes, straight from the engine."""
    bundle = models.resolve("demo")
    index = bundle.vocabulary().index
    columns = np.array([index.get(name, -1) for name in adata.var_names])
    with (
        si.readers.open_cells(adata) as source,
        Engine.open(bundle, EngineOptions(provider="cpu"), task="tokens") as engine,
    ):
        (result,) = engine.run(source.blocks(grid(source.n_cells, 1024)), columns)
    starts = result.tokens.offsets
    return [result.outputs["hidden"][starts[i] + 1 : starts[i + 1]] for i in range(adata.n_obs)]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_cls_is_our_embedding_to_the_bit(adata):
    expected = si.embed(adata, model="demo", provider="cpu").obsm["X_scGPT_demo"]
    found = embedded(adata, emb_mode="cls")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_seed_of_ones_own_draws_as_ours_does(adata):
    expected = si.embed(adata, model="demo", provider="cpu", seed=7).obsm["X_scGPT_demo"]
    found = embedded(adata, emb_mode="cls", binning_seed=7)
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - embedded(adata, emb_mode="cls")).max() > 1e-4


def test_cell_is_the_mean_over_a_cells_genes(adata):
    expected = unit(np.stack([hidden.mean(axis=0) for hidden in hidden_states(adata)]))
    np.testing.assert_allclose(embedded(adata), expected, atol=1e-6)


def test_a_cells_mean_does_not_depend_on_its_company(adata):
    np.testing.assert_allclose(embedded(adata[:1]), embedded(adata)[:1], atol=1e-6)


def test_gene_is_a_unit_vector_for_each_gene_of_each_cell(adata):
    found = embedded(adata, emb_mode="gene")
    assert len(found) == 12
    for cell, hidden in zip(found, hidden_states(adata), strict=True):
        np.testing.assert_allclose(np.stack(cell.to_list()), unit(hidden), atol=1e-6)
        row = adata.obs_names[[cell is other for other in found]]
        expressed = adata.var_names[np.asarray(adata[row].X.todense()).ravel() > 0]
        assert set(cell.index) == {name for name in expressed if not name.startswith("nothing")}
    gene = found[0].index[0]
    assert found[0][gene].shape == (64,)
    assert found[0][gene].dtype == np.float32


@pytest.mark.parametrize("mode", ["cls", "cell", "gene"])
def test_a_cell_without_counts_is_told_and_the_others_keep_their_places(with_empty, adata, mode):
    with pytest.warns(CompatWarning, match=r"1 of 12 cells have no vector; the first is cell-3: all values are zero"):
        found = embedded(with_empty, emb_mode=mode)
    whole = embedded(adata, emb_mode=mode)
    assert len(found) == 12
    if mode == "gene":
        assert len(found[EMPTY]) == 0
        assert isinstance(found[EMPTY], pd.Series)
        np.testing.assert_allclose(np.stack(found[4].to_list()), np.stack(whole[4].to_list()), atol=1e-6)
    else:
        assert np.isnan(found[EMPTY]).all()
        np.testing.assert_allclose(np.delete(found, EMPTY, 0), np.delete(whole, EMPTY, 0), atol=1e-6)


@pytest.mark.parametrize("mode", ["cls", "cell", "gene"])
def test_genes_come_beside_the_vectors(adata, mode):
    model = demo(emb_mode=mode)
    vectors, genes = model.get_embeddings(model.process_data(adata), output_genes=True)
    expected = embedded(adata, emb_mode="gene")
    assert genes == [cell.index.to_list() for cell in expected]
    assert len(vectors) == 12


def test_genes_that_a_fine_tuned_model_leaves_out_are_not_among_them(tmp_path):
    tuned = toy_bundle.write(tmp_path / "tuned", binning_genes=("G1", "G2", "G5"))
    cells = ad.AnnData(np.full((2, 9), 3, np.float32), var=pd.DataFrame(index=[f"G{i}" for i in range(9)]))
    model = scGPT(scGPTConfig(model=tuned, emb_mode="cls"))
    _, genes = model.get_embeddings(model.process_data(cells), output_genes=True)
    assert genes == [["G1", "G2", "G5"]] * 2


def test_the_callers_object_is_not_touched(adata):
    before = adata.copy()
    model = demo()
    dataset = model.process_data(adata)
    model.get_embeddings(dataset, output_genes=True)
    assert dataset.cells is adata
    pd.testing.assert_frame_equal(adata.var, before.var)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())
    assert not adata.uns
    assert not adata.obsm


def test_a_view_is_embedded_as_it_is_seen(adata):
    rows = [7, 2, 9]
    np.testing.assert_allclose(embedded(adata[rows]), embedded(adata)[rows], atol=1e-6)


def test_names_may_stand_in_a_column_and_be_ensembl_ids(adata, vocabulary):
    ids = {token: gene for gene, token in vocabulary.ensembl.items()}
    renamed = adata.copy()
    renamed.var["ids"] = [f"{ids.get(vocabulary.index.get(name), name)}" for name in adata.var_names]
    renamed.var_names = [f"row-{i}" for i in range(adata.n_vars)]
    model = demo()
    assert renamed.var["ids"].str.startswith("ENSG").sum() > 60
    for column in ("symbol", "ids"):
        found = model.get_embeddings(model.process_data(renamed, gene_names=column))
        np.testing.assert_array_equal(found, embedded(adata))
    with pytest.raises(CellsError, match="no gene column 'names'"):
        model.process_data(renamed, gene_names="names")


def test_values_that_are_no_counts_are_refused_unless_they_are_wanted(adata):
    logged = adata.copy()
    logged.X = logged.X.multiply(1 / logged.X.sum(axis=1)).multiply(1e4).log1p().tocsr().astype(np.float32)
    model = demo()
    with pytest.raises(CellsError, match="X holds log1p values, and use_raw_counts=True expects counts"):
        model.process_data(logged)
    found = model.get_embeddings(model.process_data(logged, use_raw_counts=False))
    np.testing.assert_array_equal(found, embedded(adata))


@pytest.mark.parametrize(
    ("asked", "told"), [("fine_tuning", "scgpt-infer learn"), ("use_batch_labels", "take no batch labels")]
)
def test_what_is_not_done_here_says_what_to_do_instead(adata, asked, told):
    with pytest.raises(OptionError, match=told):
        demo().process_data(adata, **{asked: True})


def test_attention_maps_are_refused(adata):
    model = demo()
    with pytest.raises(OptionError, match="attention"):
        model.get_embeddings(model.process_data(adata), output_attentions=True)


def test_a_dataset_tells_what_it_is(adata):
    dataset = demo().process_data(adata)
    assert len(dataset) == 12
    assert repr(dataset) == "<Dataset of 12 cells for demo: 80 of 90 genes known>"


def test_cells_that_changed_are_refused(adata):
    model = demo()
    dataset = model.process_data(adata)
    adata._inplace_subset_var(slice(40))
    with pytest.raises(CellsError, match=r"12 cells and 90 genes then, 12 and 40 now"):
        model.get_embeddings(dataset)


def test_a_dataset_of_another_model_is_refused(adata):
    model = demo()
    found = model.process_data(adata)
    other = Dataset(adata, found.match, "toy", "0" * 64, found.shape)
    with pytest.raises(OptionError, match="made for the model toy, and demo has other genes"):
        model.get_embeddings(other)


def test_few_known_genes_are_told_and_none_is_an_error(adata):
    few = adata[:, 75:].copy()
    few.var_names = [*few.var_names[:1], *(f"other-{i}" for i in range(14))]
    with pytest.warns(CompatWarning, match=r"(?s)Few genes are known .*1 of 15"):
        demo().process_data(few)
    few.var_names = [f"other-{i}" for i in range(15)]
    with pytest.raises(GenesError, match="0 of 15 genes"):
        demo().process_data(few)


def test_without_a_model_it_is_the_demo_and_one_line_says_so():
    for make in (scGPT, lambda: scGPT(scGPTConfig(batch_size=10))):
        with pytest.warns(CompatWarning, match=r"No model was named, so this is demo") as warned:
            make()
        assert len(warned) == 1
        assert warned[0].filename == __file__


def test_what_the_model_contradicts_is_told_in_one_line():
    with pytest.warns(CompatWarning, match=r"demo is what it is; without effect: nlayers=6 .*, nheads=2 ") as warned:
        demo(nlayers=6, nheads=2)
    assert len(warned) == 1


def test_the_older_name_of_the_configuration_will_do():
    config = scGPTConfig(model="demo", emb_mode="cls")
    assert scGPT(model_config=config).config is config
    with pytest.raises(OptionError, match="configurer is a dict; expected a scGPTConfig"):
        scGPT({"batch_size": 10})


def test_what_is_no_dataset_and_no_object_is_refused_by_name(adata):
    with pytest.raises(OptionError, match="dataset is a AnnData; expected what process_data returns"):
        demo().get_embeddings(adata)
    with pytest.raises(CellsError, match=r"Read it first: anndata\.read_h5ad\('cells\.h5ad'\)"):
        demo().process_data("cells.h5ad")


def test_vectors_of_another_kind_have_another_id():
    ids = {demo(emb_mode=mode).vector_id for mode in ("cls", "cell", "gene")}
    assert len(ids) == 3


def test_backed_cells_can_be_embedded(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    np.testing.assert_array_equal(embedded(backed), embedded(adata))
    backed.file.close()
