import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scgpt_infer import writers
from scgpt_infer.writers import Part, Target, parquet
from scgpt_runtime.errors import MissingDependencyError


def write(path):
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    vectors[4] = np.nan
    target = Target(path, 5, 8, "X_scGPT", lambda start, stop: [f"cell-{i}" for i in range(start, stop)])
    with parquet.open_parquet(target) as sink:
        sink.write(Part(0, vectors[:3], ("",) * 3))
        sink.write(Part(3, vectors[3:], ("", "a value is NaN")))
        sink.commit({"vector_id": "abc", "seed": 1})
    return vectors


def test_the_columns_are_cell_embedding_and_error(tmp_path):
    vectors = write(tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.names == ["cell", "embedding", "error"]
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 8)
    assert table["cell"].to_pylist() == [f"cell-{i}" for i in range(5)]
    assert table["error"].to_pylist() == [None] * 4 + ["a value is NaN"]
    assert np.array(table["embedding"].to_pylist(), np.float32).tobytes() == vectors.tobytes()


def test_the_record_is_in_the_metadata(tmp_path):
    write(tmp_path / "x.parquet")
    metadata = pq.read_metadata(tmp_path / "x.parquet").metadata
    assert json.loads(metadata[b"scgpt_infer"]) == {"vector_id": "abc", "seed": 1}


def test_the_same_rows_give_the_same_bytes(tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_without_pyarrow_the_install_line_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"scgpt-infer\[parquet\]"):
        writers.writer_of(tmp_path / "x.parquet")
