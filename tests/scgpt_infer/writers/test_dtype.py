"""float16 and float32: every format brings back what was stored, bit for bit."""

import json

import anndata as ad
import numpy as np
import pyarrow.parquet as pq
import pytest

from scgpt_infer.writers import Part, Target, writer_of
from scgpt_runtime.errors import OutputError


def written(path, vectors, dtype, **more):
    names = [f"cell-{i}" for i in range(len(vectors))]
    target = Target(path, *vectors.shape, "X_scGPT", lambda a, b: names[a:b], genes=("A",), dtype=dtype, **more)
    with writer_of(path).open(target) as sink:
        for start in range(0, len(vectors), 7):
            part = vectors[start : start + 7]
            sink.write(Part(start, part, tuple("bad" if np.isnan(row[0]) else "" for row in part)))
        sink.commit({"seed": 1})
    return target


def read(path, dtype):
    match path.suffix:
        case ".npy":
            return np.load(path)
        case ".h5ad":
            return ad.read_h5ad(path).obsm["X_scGPT"]
        case ".parquet":
            return np.stack(pq.read_table(path)["embedding"].to_numpy())
        case ".csv":
            rows = [line.split(",")[1:-1] for line in path.read_text().splitlines()[1:]]
            return np.array([[float(text or "nan") for text in row] for row in rows], dtype)
        case _:
            cells = [json.loads(line) for line in path.read_text().splitlines()]
            return np.array([cell["embedding"] or [np.nan] * 8 for cell in cells], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("suffix", [".npy", ".h5ad", ".parquet", ".csv", ".jsonl"])
def test_the_stored_numbers_come_back(tmp_path, suffix, dtype):
    vectors = np.random.default_rng(3).normal(size=(20, 8)).astype(np.float32)
    vectors[5] = np.nan
    path = tmp_path / f"x{suffix}"
    target = written(path, vectors, dtype)
    found = read(path, dtype)
    assert found.dtype == dtype
    assert found.tobytes() == vectors.astype(dtype).tobytes()
    assert path.stat().st_size <= writer_of(path).bytes_needed(target)


@pytest.mark.parametrize("suffix", [".npy", ".h5ad", ".parquet"])
def test_half_the_digits_take_about_half_the_room(tmp_path, suffix):
    vectors = np.random.default_rng(3).normal(size=(500, 256)).astype(np.float32)
    sizes = [written(tmp_path / f"x{suffix}", vectors, dtype).path.stat().st_size for dtype in ("float32", "float16")]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize("suffix", [".npy", ".h5ad", ".parquet", ".csv", ".json"])
def test_a_number_beyond_float16_is_refused(tmp_path, suffix):
    vectors = np.full((3, 8), 1e6, np.float32)
    with pytest.raises(OutputError, match=r"cannot hold 1e\+06 as float16.*--dtype float32"):
        written(tmp_path / f"x{suffix}", vectors, "float16")
    assert not list(tmp_path.iterdir())
