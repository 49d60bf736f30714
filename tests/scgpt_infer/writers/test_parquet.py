import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scgpt_infer import writers
from scgpt_infer.writers import Part, Target, parquet
from scgpt_infer.writers.sink import Column
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


@pytest.mark.parametrize("with_vectors", [False, True])
def test_labels_are_categories_and_numbers_may_be_missing(tmp_path, with_vectors):
    words = ('T "CD4"', "B", "unknown")
    target = Target(
        tmp_path / "x.parquet",
        2000,
        4,
        "X_scGPT",
        lambda start, stop: [f"cell-{i}" for i in range(start, stop)],
        columns=(Column("label", words), Column("confidence")),
        kind="cell_types",
        with_vectors=with_vectors,
    )
    codes = np.arange(2000, dtype=np.int32) % 2
    codes[1500:] = -1
    sure = np.where(codes < 0, np.nan, 0.1).astype(np.float32)
    with parquet.open_parquet(target) as sink:
        for rows in (slice(0, 1000), slice(1000, 2000)):
            vectors = np.ones((1000, 4), np.float32)
            sink.write(Part(rows.start, vectors, ("",) * 1000, {"label": codes[rows], "confidence": sure[rows]}))
        sink.commit({"a": 1})
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.names == ["cell", "label", "confidence", *(["embedding"] if with_vectors else []), "error"]
    assert table["label"].to_pylist() == [words[code] if code >= 0 else None for code in codes]
    assert table["confidence"].to_numpy().astype(np.float32).tobytes() == sure.tobytes()
    assert table["confidence"].null_count == 500
    assert table.to_pandas()["label"].dtype == "category"
    assert (tmp_path / "x.parquet").stat().st_size <= parquet.bytes_needed(target)


def test_a_row_group_is_many_parts(tmp_path):
    target = Target(tmp_path / "x.parquet", 40_000, 2, "X", lambda a, b: [str(i) for i in range(a, b)])
    with parquet.open_parquet(target) as sink:
        for start in range(0, 40_000, 1000):
            sink.write(Part(start, np.full((1000, 2), start, np.float32), ("",) * 1000))
        sink.commit({"a": 1})
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [17_000, 17_000, 6000]
    assert file.read()["cell"].to_pylist() == [str(i) for i in range(40_000)]
