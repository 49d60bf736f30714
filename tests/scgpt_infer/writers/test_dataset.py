"""A folder of Parquet files that readers of data sets take for one table."""

import json

import numpy as np
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest

from scgpt_infer.writers import Part, Target, dataset, writer_of
from scgpt_infer.writers.sink import Column
from scgpt_runtime.errors import OutputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.dataset"


def written(path, n_cells=3000, rows=500, **changes):
    vectors = np.random.default_rng(2).normal(size=(n_cells, 8)).astype(np.float32)
    target = Target(path, n_cells, 8, "X", lambda a, b: [f"cell-{i}" for i in range(a, b)], **changes)
    with writer_of(path).open(target) as sink:
        for start in range(0, n_cells, rows):
            part = vectors[start : start + rows]
            reasons = tuple("bad" if start + i == 3 else "" for i in range(len(part)))
            told = {column.name: np.zeros(len(part), np.int32) for column in target.columns}
            sink.write(Part(start, part, reasons, told))
        sink.commit({"vector_id": "abc", "seed": 1})
    return vectors


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(dataset, "_LEAST_ROWS", 1000)
    monkeypatch.setattr(dataset, "_FILE_BYTES", 1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_files_are_one_table_in_the_order_of_rows(path, small_files, dtype):
    vectors = written(path, dtype=dtype)
    names = sorted(each.name for each in path.iterdir())
    assert names == ["_common_metadata", "_scgpt_infer.json", *(f"part-{i:05}.parquet" for i in range(3))]
    table = pds.dataset(path).to_table()
    assert table.schema.names == ["cell", "embedding", "error"]
    assert table["cell"].to_pylist() == [f"cell-{i}" for i in range(3000)]
    assert np.stack(table["embedding"].to_numpy()).tobytes() == vectors.astype(dtype).tobytes()
    assert table["error"].to_pylist()[2:5] == [None, "bad", None]


def test_a_part_is_a_row_group_and_each_file_tells_its_rows(path, small_files):
    written(path)
    second = pq.ParquetFile(path / "part-00001.parquet")
    assert second.num_row_groups == 2
    assert json.loads(second.metadata.metadata[b"scgpt_infer_rows"]) == {"first_row": 1000, "n_cells": 1000, "of": 3000}


def test_the_facts_are_in_the_record_and_in_the_common_metadata(path):
    written(path)
    facts = {"vector_id": "abc", "seed": 1}
    assert json.loads((path / dataset.RECORD).read_text()) == facts
    assert json.loads(pq.read_schema(path / "_common_metadata").metadata[b"scgpt_infer"]) == facts


def test_words_are_categories_across_files(path, small_files):
    written(path, columns=(Column("label", ("T", "B")),), kind="cell_types", with_vectors=False)
    assert pds.dataset(path).to_table()["label"].to_pylist() == ["T"] * 3000


def test_a_former_data_set_of_ours_is_replaced_and_nothing_else(path):
    written(path)
    written(path, n_cells=100)
    assert pds.dataset(path).count_rows() == 100
    (path / "mine.txt").write_text("the user's")
    with pytest.raises(OutputError, match="scgpt-infer did not write it"):
        written(path)
    assert (path / "mine.txt").exists()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_there_is_room_for_what_is_written(path):
    written(path)
    target = Target(path, 3000, 8, "X", lambda a, b: [])
    assert sum(file.stat().st_size for file in path.iterdir()) <= dataset.bytes_needed(target)


@pytest.mark.parametrize("reader", ["polars", "duckdb"])
def test_other_readers_take_it(path, small_files, reader):
    package = pytest.importorskip(reader)
    vectors = written(path)
    files = str(path / "*.parquet")
    if reader == "polars":
        found = package.read_parquet(files)["embedding"].to_numpy()
    else:
        found = np.stack(package.sql(f"select embedding from read_parquet('{files}')").fetchnumpy()["embedding"])
    assert np.array_equal(found, vectors)
