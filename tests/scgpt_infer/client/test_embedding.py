"""What `embed` and `annotate` of both clients give, of cells in any form."""

import asyncio
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scgpt_infer.client import ReadOptions
from scgpt_infer.server.asking import Ask
from scgpt_runtime.errors import GenesError, OptionError
from tests.scgpt_infer.client.stand import BAD, N_CELLS, embed
from tests.scgpt_infer.server.fake_desk import answer, demo_here


@pytest.mark.parametrize("way", ["blocking", "awaited"])
def test_each_cell_has_its_own_vector_and_the_object_what_made_them(server, cells, expected, form, way, caplog):
    before = cells.copy()
    with caplog.at_level(logging.WARNING, "scgpt_infer"):
        found = embed(server, way, cells)
    np.testing.assert_array_equal(found.obsm["X_scGPT_demo"], expected)
    assert np.isnan(expected[BAD]).all()
    assert "1 of 90 cells have no embedding" in caplog.text
    told = found.uns["scgpt_infer"]
    assert told["vector_id"] == demo_here().vector_id
    assert (told["n_cells"], told["n_without_embedding"], told["gene_col"]) == (90, 1, "feature_name")
    assert (told["n_genes"], told["n_matched"], told["counts"]) == (60, 50, "X")
    assert len(server.asked) == 5
    assert "X_scGPT_demo" not in cells.obsm
    pd.testing.assert_frame_equal(cells.obs, before.obs)


@pytest.mark.parametrize("way", ["blocking", "awaited"])
def test_types_come_with_candidates_and_vectors(server, cells, expected, form, way):
    async def run() -> ad.AnnData:
        async with server.awaited() as client:
            return await client.annotate(cells, top=2, unknown_below=0.9)

    if way == "blocking":
        with server.client() as client:
            found = client.annotate(cells, top=2, unknown_below=0.9)
    else:
        found = asyncio.run(run())
    np.testing.assert_array_equal(found.obsm["X_scGPT_demo"], expected)
    assert [*found.obs.columns] == [
        *("scgpt_label", "scgpt_confidence", "scgpt_label_1", "scgpt_confidence_1"),
        *("scgpt_label_2", "scgpt_confidence_2"),
    ]
    told = answer(demo_here(), Ask("annotate", server.asked[0].cells, options={"top": 2, "unknown_below": 0.9}))
    for column in told.columns:
        mine = found.obs[f"scgpt_{column.name}"].iloc[:20]
        theirs = told.part.columns[column.name]
        if column.words:
            assert tuple(mine.cat.categories) == column.words
            np.testing.assert_array_equal(mine.cat.codes, theirs)
        else:
            np.testing.assert_array_equal(mine.to_numpy(), theirs)
    assert found.obs["scgpt_label"].isna().tolist() == [row == BAD for row in range(N_CELLS)]
    assert server.asked[0].options == {"top": 2, "unknown_below": 0.9}


def test_a_matrix_a_list_a_file_and_a_backed_object_give_the_same(server, cells, expected, tmp_path):
    names = cells.var["feature_name"].tolist()
    told = [
        dict(zip(np.array(names)[row.indices].tolist(), row.data.tolist(), strict=True))
        for row in (cells.X[number] for number in range(N_CELLS))
    ]
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    backed = ad.read_h5ad(path, backed="r")
    with server.client() as client:
        results = [client.embed(cells.X, names), client.embed(told), client.embed(path), client.embed(backed)]
    backed.file.close()
    for found in results:
        np.testing.assert_array_equal(found.obsm["X_scGPT_demo"], expected)


def test_several_files_are_one_data_set_and_a_damaged_one_is_told(server, cells, expected, tmp_path):
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad", tmp_path / "damaged.h5ad"]
    cells[:50].write_h5ad(paths[0])
    cells[50:].write_h5ad(paths[1])
    paths[2].write_bytes(b"no HDF5")
    with server.client() as client:
        found = client.embed(paths)
    np.testing.assert_array_equal(found.obsm["X_scGPT_demo"], expected)
    assert (found.uns["scgpt_infer"]["n_files"], found.uns["scgpt_infer"]["n_bad_files"]) == (3, 1)


def test_the_object_itself_is_changed_when_asked(server, cells):
    own = cells.copy()
    with server.client() as client:
        assert client.embed(own, inplace=True) is own
        assert "X_scGPT_demo" in own.obsm
        client.embed(own, None, ReadOptions(key="X_again", limit=30))
        with pytest.raises(OptionError, match="do not go together"):
            client.embed(own, None, ReadOptions(limit=3), inplace=True)


def test_what_is_the_users_is_not_replaced_and_no_cell_is_sent(server, cells):
    own = cells.copy()
    own.obsm["X_mine"] = np.zeros((N_CELLS, 2))
    with server.client() as client:
        with pytest.raises(OptionError, match="X_mine"):
            client.annotate(own, None, ReadOptions(key="X_mine"))
        with pytest.raises(GenesError, match="known to the model"):
            client.embed(np.ones((2, 20)), [f"gene-{n}" for n in range(20)])
    assert server.asked == []


def test_numbers_of_numpy_are_options_too(server, cells, form):
    with server.client() as client:
        client.annotate(cells[:3].copy(), top=np.int64(2), unknown_below=np.float32(0.5))
        with pytest.raises(OptionError, match="top is True"):
            client.annotate(cells[:3].copy(), top=True)
    assert server.asked[0].options == {"top": 2, "unknown_below": 0.5}
