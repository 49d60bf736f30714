"""Chunks inflated in parallel give what h5py gives, bit by bit, and what they cannot give h5py still does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scgpt_infer.readers import chunks, matrix, open_cells
from scgpt_infer.readers.chunks import Inflated, inflated
from scgpt_infer.readers.room import ReadingRoom
from scgpt_infer.spans import grid

SLICES = [(0, 1000), (0, 1), (0, 0), (99, 101), (100, 200), (37, 760), (761, 1000), (999, 1000), (5, 5), (900, 5000)]


@pytest.fixture(autouse=True)
def threads_for_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data is shared among threads, too."""
    monkeypatch.setattr(chunks, "THREAD_BYTES", 1)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., h5py.Dataset]:
    file = h5py.File(tmp_path / "values.h5", "w")

    def dataset(values: Any, **storage: Any) -> h5py.Dataset:
        made = file.create_dataset("values", data=values, **storage)
        file.flush()
        return made

    yield dataset
    file.close()


def some(dtype: str, shape: tuple[int, ...] = (1000,)) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.poisson(2.0, shape) * (1 if dtype[-2] in "iu" else 1.37)).astype(dtype)


def same(ours: object, theirs: np.ndarray) -> bool:
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


def by_h5py(*_: object) -> None:
    raise AssertionError("this chunk was left to h5py")


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", "i8", "i4", ">i2", "i1", "u8", "u4", "u2", "u1", "|b1"])
def test_every_type(dtype: str, shuffle: bool, make, monkeypatch: pytest.MonkeyPatch):
    values = some(dtype)
    ours = inflated(make(values, chunks=(96,), compression="gzip", shuffle=shuffle), threads=3)
    assert isinstance(ours, Inflated)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", by_h5py)
    for low, high in SLICES:
        assert same(ours[low:high], values[low:high])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 7, 100, 999, 1000, 1500])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_chunk_size_and_number_of_threads(size: int, threads: int, shuffle: bool, make):
    values = some("f4")
    # A chunk may be larger than a dataset that can grow.
    ours = inflated(make(values, chunks=(size,), maxshape=(None,), compression="gzip", shuffle=shuffle), threads)
    assert isinstance(ours, Inflated)
    for low, high in SLICES:
        assert same(ours[low:high], values[low:high])


@pytest.mark.parametrize("shape", [(50, 30), (64, 32), (7, 100)])
@pytest.mark.parametrize("chunk", [(7, 30), (16, 8), (1, 13), (5, 5)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_matrices(shape: tuple[int, int], chunk: tuple[int, int], shuffle: bool, make):
    values = some("f4", shape)
    ours = inflated(make(values, chunks=chunk, maxshape=(None, None), compression="gzip", shuffle=shuffle), threads=2)
    assert isinstance(ours, Inflated)
    for low, high in [(0, shape[0]), (0, 1), (3, 20), (20, 21), (6, 7), (2, 2)]:
        assert same(ours[low:high], values[low:high])


def test_whatever_is_no_slice_h5py_answers(make):
    values = some("i4")
    ours = inflated(make(values, chunks=(100,), compression="gzip"), threads=2)
    assert ours[7] == values[7]
    assert ours[-1] == values[-1]
    assert same(ours[10:900:7], values[10:900:7])
    assert same(ours[-20:], values[-20:])
    assert same(ours[:], values)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_empty_datasets(shape: tuple[int, ...], make):
    dataset = make(np.empty(shape, "f4"), chunks=(3,) * len(shape), maxshape=(None,) * len(shape), compression="gzip")
    assert same(inflated(dataset, threads=2)[0:4], dataset[0:4])


STORED_OTHERWISE: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunks alone": {"chunks": (100,)},
    "lzf": {"chunks": (100,), "compression": "lzf"},
    "shuffle alone": {"chunks": (100,), "shuffle": True},
    "checksum": {"chunks": (100,), "compression": "gzip", "fletcher32": True},
    "shuffle and checksum": {"chunks": (100,), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "scale and offset": {"chunks": (100,), "compression": "gzip", "scaleoffset": 0},
}


@pytest.mark.parametrize("storage", STORED_OTHERWISE)
def test_other_storage_is_left_to_h5py(storage: str, make):
    dataset = make(some("i4"), **STORED_OTHERWISE[storage])
    assert inflated(dataset, threads=2) is dataset


def test_virtual_and_large_chunks_are_left_to_h5py(make):
    part = make(some("i4"), chunks=(100,), compression="gzip")
    layout = h5py.VirtualLayout((1000,), "i4")
    layout[:] = h5py.VirtualSource(part)
    virtual = part.parent.create_virtual_dataset("virtual", layout)
    assert inflated(virtual, threads=2) is virtual
    assert inflated(part, 2, ReadingRoom(kept_bytes=399)) is part


def test_tall_chunks_of_a_wide_matrix_are_left_to_h5py(make):
    # Each is small, but a few rows need all that stand side by side.
    tall = make(some("f4", (100, 40)), chunks=(50, 8), compression="gzip")
    assert isinstance(inflated(tall, 2, ReadingRoom(kept_bytes=50 * 40 * 4)), Inflated)
    assert inflated(tall, 2, ReadingRoom(kept_bytes=50 * 40 * 4 - 1)) is tall


def test_large_slices_are_worked_on_in_parts(make, monkeypatch: pytest.MonkeyPatch):
    values = some("f4")
    parts: list[int] = []
    monkeypatch.setattr(Inflated, "_fill", lambda *a, f=Inflated._fill: parts.append(len(a[2])) or f(*a))
    ours = inflated(make(values, chunks=(100,), compression="gzip"), 2, ReadingRoom(work_bytes=3 * 400))
    assert same(ours[0:1000], values)
    assert parts == [3, 3, 3, 1]


def test_types_that_numpy_has_not_are_left_to_h5py(make):
    file = make(np.zeros(1)).file
    odd = h5py.h5t.NATIVE_INT32.copy()
    odd.set_precision(20)  # 20 bits of 32: h5py makes int32 of it, which is not what stands in the file
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((100,))
    plist.set_deflate(4)
    space = h5py.h5s.create_simple((1000,))
    dataset = h5py.Dataset(h5py.h5d.create(file.id, b"odd", odd, space, plist))
    assert inflated(dataset, threads=2) is dataset


@pytest.mark.parametrize("shuffle", [False, True])
def test_chunks_that_went_without_a_filter(shuffle: bool, make):
    values = some("f4")
    dataset = make(values, chunks=(100,), compression="gzip", shuffle=shuffle)
    all_filters = 0b11 if shuffle else 0b1
    values[300:400] = np.arange(100)
    dataset.id.write_direct_chunk((300,), values[300:400].tobytes(), all_filters)
    if shuffle:
        # Shuffled, not deflated.
        values[500:600] = np.arange(100) / 7
        planes = values[500:600].view(np.uint8).reshape(100, 4).T.tobytes()
        dataset.id.write_direct_chunk((500,), planes, 0b10)
    ours = inflated(dataset, threads=2)
    assert same(ours[0:1000], values)
    assert same(ours[350:560], values[350:560])


def test_chunks_that_were_never_written(make):
    dataset = make(None, shape=(1000,), dtype="f4", chunks=(100,), compression="gzip", fillvalue=7)
    dataset[250:260] = 1
    assert same(inflated(dataset, threads=2)[0:1000], dataset[()])
    assert set(inflated(dataset, threads=2)[0:1000]) == {1, 7}


def test_what_is_written_meanwhile_is_read(make):
    dataset = make(some("f4"), chunks=(100,), compression="gzip")
    dataset[:] = 5  # in HDF5's cache, not in the file
    assert set(inflated(dataset, threads=2)[:]) == {5}


@pytest.mark.parametrize("low", [0, 250])
def test_a_damaged_chunk_gives_the_error_of_h5py(low: int, make):
    dataset = make(some("f4"), chunks=(100,), compression="gzip")
    mask, stored = dataset.id.read_direct_chunk((700,))
    dataset.id.write_direct_chunk((700,), stored[:20] + b"\0" * 8 + stored[28:], mask)
    ours = inflated(dataset, threads=3)
    with pytest.raises(OSError) as theirs:  # noqa: PT011  its text is HDF5's
        dataset[low:1000]
    with pytest.raises(OSError) as found:  # noqa: PT011
        ours[low:1000]
    assert str(found.value) == str(theirs.value)
    assert same(ours[0:700], dataset[0:700])


def test_a_chunk_that_two_slices_share_is_inflated_once(make, monkeypatch: pytest.MonkeyPatch):
    values = some("f4")
    seen: list[int] = []

    def counted(stored: bytes, size: int) -> bytearray:
        seen.append(size)
        return inflate(stored, size)

    inflate = chunks.zlib_decompress
    monkeypatch.setattr(chunks, "zlib_decompress", counted)
    ours = inflated(make(values, chunks=(300,), compression="gzip"), threads=2)
    parts = [ours[low : low + 125] for low in range(0, 1000, 125)]
    assert same(np.concatenate(parts), values)
    assert len(seen) == 4


def test_a_slice_is_its_own_memory(make):
    ours = inflated(make(some("f4"), chunks=(300,), compression="gzip"), threads=2)
    before = ours[0:250].copy()
    ours[0:250][:] = -1
    assert same(ours[0:250], before)


@pytest.mark.parametrize("storage", ["csr", "csc", "dense"])
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_cells_are_those_of_h5py(storage: str, threads, cells, same, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cells.X = cells.X.toarray() if storage == "dense" else cells.X.asformat(storage)
    cells.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    made: list[object] = []
    monkeypatch.setattr(Inflated, "_inflate", lambda *a, f=Inflated._inflate: made.append(a) or f(*a))
    with open_cells(tmp_path / "cells.h5ad", threads=threads) as source:
        ours = list(source.blocks(grid(source.n_cells, 48)))
    assert made
    monkeypatch.setattr("scgpt_infer.readers.elements.inflated", lambda dataset, threads, room: dataset)
    with open_cells(tmp_path / "cells.h5ad") as source:
        assert all(same(a, b) for a, b in zip(ours, source.blocks(grid(source.n_cells, 48)), strict=True))


def test_many_readers_at_once(make):
    from concurrent.futures import ThreadPoolExecutor

    values = some("f4")
    ours = inflated(make(values, chunks=(64,), compression="gzip", shuffle=True), threads=2)
    places = [(low, low + 130) for low in range(0, 1000, 61)] * 5
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda place: ours[slice(*place)], places))
    assert all(same(part, values[low:high]) for part, (low, high) in zip(parts, places, strict=True))


def test_conversions_copy_nothing_that_is_already_right():
    values, indices = np.ones(3, np.float32), np.ones(3, np.int32)
    assert matrix.to_float32(values) is values
    assert matrix.narrow(indices) is indices
