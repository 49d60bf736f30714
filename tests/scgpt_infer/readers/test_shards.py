"""Shards are read as zarr reads them, and what they are not fit for is left to it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.storage import ZipStore

from scgpt_infer.readers.nodes import ZarrArray
from scgpt_infer.readers.shards import shards_of

N, CHUNK, SHARD = 10_000, 128, 1024


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).poisson(3, N).astype(np.float32)


def write(store: Any, values: np.ndarray, **how: Any) -> zarr.Array:
    return zarr.create_array(store, data=values, **({"chunks": (CHUNK,), "shards": (SHARD,)} | how))


@pytest.mark.parametrize("codec", [ZstdCodec(), BloscCodec(), GzipCodec()], ids=["zstd", "blosc", "gzip"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1"])
def test_every_slice_is_as_zarr_gives_it(codec: Any, dtype: str, values: np.ndarray, tmp_path: Path, monkeypatch):
    array = write(tmp_path / "a", values.astype(dtype), compressors=codec)
    assert shards_of(array) is not None
    ours = ZarrArray(array, is_full=True)
    monkeypatch.delattr(zarr.Array, "__getitem__")  # none of it goes by way of zarr
    for low, high in (
        (0, N),
        (0, 1),
        (127, 129),
        (1000, 1100),
        (500, 5000),
        (9_990, N),
        (N - 1, N),
        (7, 7),
        (1024, 2048),
    ):
        np.testing.assert_array_equal(ours[low:high], values[low:high].astype(dtype))
        assert ours[low:high].dtype == dtype


def test_the_index_may_stand_first(values: np.ndarray, tmp_path: Path):
    serializer = ShardingCodec(chunk_shape=(CHUNK,), codecs=[*_inside(tmp_path, values)], index_location="start")
    array = write(tmp_path / "a", values, chunks=(SHARD,), shards=None, serializer=serializer, compressors=None)
    found = shards_of(array)
    assert found is not None
    np.testing.assert_array_equal(found[CHUNK:N], values[CHUNK:])


def _inside(folder: Path, values: np.ndarray) -> Any:
    return write(folder / "inside", values).metadata.codecs[0].codecs


def test_what_is_stored_in_another_way_is_left_to_zarr(values: np.ndarray, tmp_path: Path):
    others = {
        "no shards": write(tmp_path / "a", values, shards=None),
        "two axes": write(tmp_path / "b", values.reshape(-1, 2), chunks=(64, 2), shards=(512, 2)),
        "not compressed": write(tmp_path / "c", values, compressors=None),
        "zarr 2": write(tmp_path / "d", values, shards=None, zarr_format=2),
    }
    with ZipStore(tmp_path / "e.zip", mode="w") as packed:
        others["a zip"] = write(packed, values)
        assert {name: shards_of(array) for name, array in others.items()} == dict.fromkeys(others)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr says that texts of a fixed width have no specification
        assert shards_of(write(tmp_path / "f", values.astype("U5"))) is None


def test_a_chunk_of_zeros_that_is_not_stored_is_zeros(values: np.ndarray, tmp_path: Path):
    values[2 * CHUNK : 3 * CHUNK] = 0
    array = write(tmp_path / "a", values)
    found = shards_of(array)
    assert found is not None
    np.testing.assert_array_equal(found[0:SHARD], values[:SHARD])
    (tmp_path / "a" / "c" / "1").unlink()
    np.testing.assert_array_equal(found[SHARD : 2 * SHARD], 0)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_damaged_shard_is_an_error_where_zarr_has_one_or_its_values_are_right(
    place: int, values: np.ndarray, tmp_path: Path
):
    array = write(tmp_path / "a", values)
    shard = tmp_path / "a" / "c" / "0"
    stored = bytearray(shard.read_bytes())
    at = len(stored) * place // 100
    stored[at : at + 40] = bytes(byte ^ 0xFF for byte in stored[at : at + 40])
    shard.write_bytes(bytes(stored))
    found = shards_of(array)
    assert found is not None
    theirs, ours = (outcome(one) for one in (array, found))
    assert ours == theirs or ours == values[:SHARD].tobytes()
    np.testing.assert_array_equal(found[SHARD:N], values[SHARD:])


def outcome(array: Any) -> bytes | type[Exception]:
    """The first shard, or the error that it ends in."""
    try:
        return np.asarray(array[0:SHARD]).tobytes()
    except Exception as error:
        return type(error)
