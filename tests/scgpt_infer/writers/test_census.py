"""The layout of contributed embeddings: the arrays, and what meta.yml tells."""

import json
from datetime import date
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml

import scgpt_infer
from scgpt_infer.options import EmbedOptions
from scgpt_infer.writers import Part, Target, census, writer_of
from scgpt_infer.writers.sink import Column
from scgpt_runtime.errors import CellsError, OutputError

FIELDS = [
    *("id", "embedding_name", "title", "description", "primary_contact", "additional_contacts", "DOI"),
    *("additional_information", "model_link", "data_type", "census_version", "experiment_name", "measurement_name"),
    *("n_embeddings", "n_features", "submission_date"),
]
RECORD = {
    "version": "0.1.0",
    "model": 'hu"man: ü',
    "vector_id": "abc",
    "precision": "fp32",
    "counts": "layers/raw",
    "max_length": 1200,
    "census_version": "2025-01-30",
    "organism": "mus_musculus",
    "measurement": "RNA",
    "where": "cell_type == 'B cell'",
}


def write(path: Path, joinids: list[int], dtype: str = "float32", record: dict = RECORD) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(len(joinids), 8)).astype(np.float32)
    vectors[1] = np.nan
    told = np.array(joinids, np.int64)
    target = Target(
        path, len(joinids), 8, "X", lambda start, stop: [], joinids=lambda start, stop: told[start:stop], dtype=dtype
    )
    with census.open_census(target) as sink:
        for start in range(0, len(joinids), 2):
            part = vectors[start : start + 2]
            sink.write(Part(start, part, tuple("bad" if np.isnan(row).any() else "" for row in part)))
        sink.commit(record)
    assert sum(file.stat().st_size for file in path.iterdir()) <= census.bytes_needed(target)
    return vectors


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_arrays_hold_the_embedded_cells_alone(dtype: str, tmp_path: Path):
    vectors = write(tmp_path / "x.census", [2, 3, 5, 9, 11], dtype)
    read, joinids = np.load(tmp_path / "x.census/embeddings.npy"), np.load(tmp_path / "x.census/joinids.npy")
    assert (read.dtype, joinids.dtype) == (np.dtype(dtype), np.int64)
    assert joinids.tolist() == [2, 5, 9, 11]
    assert read.tobytes() == vectors[[0, 2, 3, 4]].astype(dtype).tobytes()
    assert np.load(tmp_path / "x.census/embeddings.npy", mmap_mode="r").shape == (4, 8)


def test_meta_tells_the_fields_of_a_contribution_and_leaves_the_unknown_empty(tmp_path: Path):
    write(tmp_path / "x.census", [2, 3, 5, 9, 11])
    told = yaml.safe_load((tmp_path / "x.census/meta.yml").read_text(encoding="utf-8"))
    assert list(told) == FIELDS
    assert told["primary_contact"] == {"name": "", "email": "", "affiliation": ""}
    assert (told["id"], told["additional_contacts"], told["data_type"]) == ("", [], "obs_embedding")
    assert (told["n_embeddings"], told["n_features"]) == (4, 8)
    assert (told["census_version"], told["experiment_name"]) == ("2025-01-30", "mus_musculus")
    assert told["measurement_name"] == "RNA"
    assert isinstance(told["submission_date"], date)
    assert told["embedding_name"] == 'scGPT hu"man: ü'
    assert "Cells where cell_type == 'B cell'." in told["description"]
    assert "abc" in told["description"]
    assert json.loads((tmp_path / "x.census/scgpt_infer.json").read_text())["vector_id"] == "abc"


def test_what_is_too_long_is_cut_and_what_is_not_known_has_a_remark(tmp_path: Path):
    write(tmp_path / "x.census", [0, 1, 2], record={**RECORD, "where": "x" * 9000, "organism": "", "model": "m" * 500})
    text = (tmp_path / "x.census/meta.yml").read_text()
    told = yaml.safe_load(text)
    assert [len(told[name]) for name in ("embedding_name", "title", "description")] == [128, 128, 2048]
    assert 'experiment_name: ""  # homo_sapiens or mus_musculus' in text


def test_joinids_may_stand_in_any_order_but_each_once(tmp_path: Path):
    write(tmp_path / "x.census", [9, 3, 5, 2])
    assert np.load(tmp_path / "x.census/joinids.npy").tolist() == [9, 5, 2]
    with pytest.raises(OutputError, match=r"1 joinids come again, such as 5"):
        write(tmp_path / "y.census", [9, 3, 5, 5, 2])
    with pytest.raises(OutputError, match=r"-4 is no joinid"):
        write(tmp_path / "y.census", [9, 3, -4, 5])
    assert [path.name for path in tmp_path.iterdir()] == ["x.census"]


def test_a_contribution_of_ours_is_replaced_and_nothing_else(tmp_path: Path):
    path = tmp_path / "x.census"
    write(path, [1, 2, 3])
    write(path, [4, 5, 6])
    assert np.load(path / "joinids.npy").tolist() == [4, 6]
    (path / "CxG-contrib-1").mkdir()
    with pytest.raises(OutputError, match=r"exists already, and scgpt-infer did not write it"):
        write(path, [1, 2, 3])


def test_a_meta_that_was_filled_in_is_not_lost(tmp_path: Path):
    path = tmp_path / "x.census"
    write(path, [1, 2, 3])
    filled = (path / "meta.yml").read_text().replace('name: ""', 'name: "Ada Lovelace"')
    (path / "meta.yml").write_text(filled)
    with pytest.raises(OutputError, match=r"exists already, and scgpt-infer did not write it as it is now"):
        write(path, [4, 5, 6])
    assert (path / "meta.yml").read_text() == filled


def test_what_cannot_be_contributed_is_refused_before_the_work(tmp_path: Path):
    target = Target(tmp_path / "x.census", 5, 2, "X", lambda start, stop: [], columns=(Column("label", ("B",)),))
    with pytest.raises(OutputError, match=r"is to hold label, and \.census holds embeddings of cells alone"):
        writer_of(target.path).check(target)
    target = Target(tmp_path / "x.census", 5, 2, "X", lambda start, stop: [])
    with pytest.raises(OutputError, match=r"needs the joinid of each cell.*column soma_joinid of obs"):
        writer_of(target.path).check(target)


def test_joinids_of_an_h5ad_are_a_column_of_obs(toy_adata: ad.AnnData, toy_model: Path, tmp_path: Path):
    toy_adata.obs["soma_joinid"] = np.arange(toy_adata.n_obs) * 7
    toy_adata.write_h5ad(tmp_path / "c.h5ad")
    options = EmbedOptions(limit=20)
    scgpt_infer.embed_file(tmp_path / "c.h5ad", tmp_path / "x.census", toy_model, options)
    scgpt_infer.embed_file(tmp_path / "c.h5ad", tmp_path / "x.npy", toy_model, options)
    joinids, vectors = np.load(tmp_path / "x.census/joinids.npy"), np.load(tmp_path / "x.npy")
    assert joinids.tolist() == [7 * row for row in range(20) if not np.isnan(vectors[row]).any()]
    assert np.load(tmp_path / "x.census/embeddings.npy").tobytes() == vectors[joinids // 7].tobytes()


def test_a_column_that_holds_no_joinids_is_refused_before_the_work(toy_adata: ad.AnnData, toy_model: Path, tmp_path):
    toy_adata.obs["soma_joinid"] = [f"x{i}" for i in range(toy_adata.n_obs)]
    toy_adata.write_h5ad(tmp_path / "c.h5ad")
    with pytest.raises(CellsError, match=r"Column soma_joinid of obs holds something that is no joinid"):
        scgpt_infer.embed_file(tmp_path / "c.h5ad", tmp_path / "x.census", toy_model)
    del toy_adata.obs["soma_joinid"]
    toy_adata.write_h5ad(tmp_path / "c.h5ad")
    with pytest.raises(OutputError, match=r"needs the joinid of each cell"):
        scgpt_infer.embed_file(tmp_path / "c.h5ad", tmp_path / "x.census", toy_model)
