"""Labels and numbers in ``obs`` of an h5ad file, as anndata reads them back."""

import os
from dataclasses import replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

from scgpt_infer.writers import Part, Target, h5ad
from scgpt_infer.writers.sink import Column
from scgpt_runtime.errors import OutputError

N_CELLS = 1100
WORDS = ('T "cell"/α', "B cell", "unknown")
COLUMNS = (Column("label", WORDS), Column("confidence"), Column("label_1", WORDS), Column("confidence_1"))


def target(source: Path | None, path: Path, n_cells: int = N_CELLS, **changes) -> Target:
    def names(start, stop):
        return [f"cell-{i}" for i in range(start, stop)]

    wanted = Target(path, n_cells, 4, "X_scGPT", names, source=source, columns=COLUMNS, kind="cell_types")
    return replace(wanted, **changes)


def values(wanted: Target, rows: slice) -> dict[str, np.ndarray]:
    """Codes that go round the words with a missing one between, and numbers that are missing at the same cells."""
    places = np.arange(wanted.n_cells)[rows]
    found = {}
    for column in wanted.columns:
        codes = (places % (len(column.words) + 1) - 1).astype(np.int32)
        numbers = np.where(places % 4, places / wanted.n_cells, np.nan).astype(np.float32)
        found[column.name] = codes if column.words else numbers
    return found


def write(wanted: Target) -> Path:
    with h5ad.open_h5ad(wanted) as sink:
        for start in range(0, wanted.n_cells, 400):
            rows = slice(start, min(start + 400, wanted.n_cells))
            n_cells = rows.stop - rows.start
            sink.write(Part(start, np.ones((n_cells, 4), np.float32), ("",) * n_cells, values(wanted, rows)))
        sink.commit({"model": "toy"})
    return wanted.path


def test_anndata_reads_labels_as_categories_and_numbers_as_they_were(toy_h5ad, tmp_path):
    wanted = target(toy_h5ad, tmp_path / "out.h5ad")
    obs = ad.read_h5ad(write(wanted)).obs
    expected = values(wanted, slice(0, N_CELLS))
    assert list(obs["scgpt_label"].cat.categories) == list(WORDS)
    assert not obs["scgpt_label"].cat.ordered
    np.testing.assert_array_equal(obs["scgpt_label"].cat.codes, expected["label"])
    assert obs["scgpt_confidence"].dtype == np.float32
    assert obs["scgpt_confidence"].to_numpy().tobytes() == expected["confidence"].tobytes()


def test_the_users_columns_are_as_they_were_and_come_first(toy_adata, toy_h5ad, tmp_path):
    obs = ad.read_h5ad(write(target(toy_h5ad, tmp_path / "out.h5ad"))).obs
    ours = [f"scgpt_{column.name}" for column in COLUMNS]
    assert list(obs.columns) == [*toy_adata.obs.columns, *ours]
    pd.testing.assert_frame_equal(obs.drop(columns=ours), toy_adata.obs)


@pytest.mark.parametrize("obs_only", [False, True])
def test_fewer_cells_have_columns_too(toy_h5ad, tmp_path, obs_only):
    wanted = target(toy_h5ad, tmp_path / "out.h5ad", n_cells=10, obs_only=obs_only)
    obs = ad.read_h5ad(write(wanted)).obs
    np.testing.assert_array_equal(obs["scgpt_label"].cat.codes, values(wanted, slice(0, 10))["label"])


def test_cells_from_elsewhere_have_columns_too(tmp_path):
    wanted = target(None, tmp_path / "out.h5ad", n_cells=7, genes=("A", "B"))
    read = ad.read_h5ad(write(wanted))
    assert list(read.obs.columns) == [f"scgpt_{column.name}" for column in COLUMNS]
    assert read.obs["scgpt_label"].tolist()[1:4] == list(WORDS)
    assert read.obsm["X_scGPT"].shape == (7, 4)


@pytest.mark.parametrize("count", [1, 127, 128, 40_000])
def test_any_number_of_words_has_codes_that_reach(tmp_path, count):
    words = tuple(f"word {place}" for place in range(count))
    wanted = target(None, tmp_path / "out.h5ad", n_cells=3, columns=(Column("label", words),))
    with h5ad.open_h5ad(wanted) as sink:
        codes = np.array([0, count - 1, -1], np.int32)
        sink.write(Part(0, np.ones((3, 4), np.float32), ("",) * 3, {"label": codes}))
        sink.commit({})
    told = ad.read_h5ad(wanted.path).obs["scgpt_label"]
    assert told.tolist()[:2] == [words[0], words[-1]]
    assert pd.isna(told.iloc[2])


def test_columns_of_an_earlier_run_are_replaced_with_their_ranks(toy_adata, tmp_path):
    toy_adata.obs["scgpt_label"] = np.arange(N_CELLS)
    toy_adata.obs["scgpt_confidence"] = pd.Categorical(["x"] * N_CELLS)
    toy_adata.obs["scgpt_label_1"] = pd.Categorical.from_codes(np.arange(N_CELLS) % 2, [1, 2])
    toy_adata.obs["scgpt_label_9"] = "of nine candidates"
    toy_adata.obs["scgpt_note"] = "kept"
    toy_adata.write_h5ad(tmp_path / "in.h5ad")
    obs = ad.read_h5ad(write(target(tmp_path / "in.h5ad", tmp_path / "out.h5ad"))).obs
    assert list(obs.columns) == [
        "kind",
        "scgpt_label",
        "scgpt_confidence",
        "scgpt_label_1",
        "scgpt_note",
        "scgpt_confidence_1",
    ]
    assert list(obs["scgpt_label"].cat.categories) == list(WORDS)
    assert obs["scgpt_confidence"].dtype == np.float32


def test_a_column_of_the_users_is_never_replaced(toy_adata, tmp_path):
    toy_adata.obs["my_label"] = "mine"
    toy_adata.write_h5ad(tmp_path / "in.h5ad")
    with pytest.raises(OutputError, match=r"obs already has my_label, which scgpt-infer did not write.*--prefix"):
        write(target(tmp_path / "in.h5ad", tmp_path / "out.h5ad", prefix="my_"))
    assert os.listdir(tmp_path) == ["in.h5ad"]


def test_the_names_of_the_cells_are_never_replaced(toy_adata, tmp_path):
    toy_adata.obs.index.name = "scgpt_label"
    toy_adata.write_h5ad(tmp_path / "in.h5ad")
    with pytest.raises(OutputError, match="obs already has scgpt_label"):
        write(target(tmp_path / "in.h5ad", tmp_path / "out.h5ad"))


def test_columns_with_a_prefix_of_the_users_are_ours_the_next_time(toy_h5ad, tmp_path):
    first = write(target(toy_h5ad, tmp_path / "first.h5ad", prefix="mine_"))
    fewer = target(first, tmp_path / "second.h5ad", prefix="mine_", columns=COLUMNS[:2])
    assert list(ad.read_h5ad(write(fewer)).obs.columns) == ["kind", "mine_label", "mine_confidence"]
    both = ad.read_h5ad(write(target(first, tmp_path / "third.h5ad"))).obs.columns
    assert len(both) == 1 + 2 * len(COLUMNS)


def test_columns_with_a_prefix_of_the_users_stay_ours_whatever_ran_since(toy_h5ad):
    for prefix in ("mine_", "other_", "scgpt_"):
        write(target(toy_h5ad, toy_h5ad, prefix=prefix))
    write(target(toy_h5ad, toy_h5ad, columns=(), kind="embeddings"))
    for prefix in ("other_", "mine_"):
        write(target(toy_h5ad, toy_h5ad, prefix=prefix, columns=COLUMNS[:2]))
    assert len(ad.read_h5ad(toy_h5ad).obs.columns) == 1 + 2 + 2 + len(COLUMNS)


def test_a_prefix_that_no_name_can_have_is_told(toy_h5ad, tmp_path):
    with pytest.raises(OutputError, match="'a/b_' cannot begin the name of a column"):
        write(target(toy_h5ad, tmp_path / "out.h5ad", prefix="a/b_"))


def test_in_place_again_and_again_does_not_let_the_file_grow(toy_h5ad):
    write(target(toy_h5ad, toy_h5ad))
    once = toy_h5ad.stat().st_size
    for _ in range(4):
        write(target(toy_h5ad, toy_h5ad))
    assert toy_h5ad.stat().st_size < once + 2 * (4 + 4 + 1 + 1) * N_CELLS  # four times that, were they written anew
    assert list(ad.read_h5ad(toy_h5ad).obs["scgpt_label"].cat.categories) == list(WORDS)


def test_embedding_again_leaves_columns_as_they_are(toy_h5ad):
    write(target(toy_h5ad, toy_h5ad))
    before = ad.read_h5ad(toy_h5ad).obs
    write(target(toy_h5ad, toy_h5ad, columns=(), kind="embeddings"))
    pd.testing.assert_frame_equal(ad.read_h5ad(toy_h5ad).obs, before)


def test_tables_of_older_anndata_take_columns(toy_h5ad, tmp_path):
    with h5py.File(toy_h5ad, "r+") as file:
        file["obs"].attrs["encoding-version"] = "0.1.0"
        file["obs"].attrs["column-order"] = np.array([b"kind"])
    obs = ad.read_h5ad(write(target(toy_h5ad, tmp_path / "out.h5ad"))).obs
    assert list(obs.columns) == ["kind", *(f"scgpt_{column.name}" for column in COLUMNS)]
    assert list(obs["scgpt_label"].cat.categories) == list(WORDS)


def test_room_is_asked_for_the_columns_too(toy_h5ad, tmp_path):
    wanted = target(toy_h5ad, tmp_path / "out.h5ad")
    assert write(wanted).stat().st_size <= h5ad.bytes_needed(wanted)
    plain = replace(wanted, columns=())
    assert h5ad.bytes_needed(wanted) - h5ad.bytes_needed(plain) >= 4 * 4 * N_CELLS


def test_room_is_asked_for_names_where_there_is_no_file_to_copy(tmp_path):
    wanted = target(None, tmp_path / "out.h5ad", n_cells=20_000, genes=tuple(f"gene {place}" for place in range(9000)))
    assert write(wanted).stat().st_size <= h5ad.bytes_needed(wanted)
