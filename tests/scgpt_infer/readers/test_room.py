"""What reading says that it takes is what it takes, and no size of pieces changes what is read."""

import tracemalloc
from itertools import pairwise
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.readers import open_cells
from scgpt_infer.readers.group import GroupCells
from scgpt_infer.readers.room import ROOM, ReadingRoom, Weighed
from scgpt_infer.spans import grid

N_CELLS, N_GENES, RANGE = 2000, 1500, 512
SLACK = 300_000
"""Bytes of names, of lists, and of pieces that are small whatever the matrix."""


def within_anything() -> list[ReadingRoom]:
    return [ReadingRoom.within(n_bytes) for n_bytes in (0, 30_000_000, 300_000_000, 10**12)]


def test_a_room_is_never_larger_than_usual_nor_too_small_to_read():
    rooms = within_anything()
    assert rooms[-1] == ROOM
    for small, large in pairwise(rooms):
        for name in ReadingRoom.__dataclass_fields__:
            assert 1 << 22 <= getattr(small, name) <= getattr(large, name) <= getattr(ROOM, name)


def test_what_works_with_the_pieces_stays_within_the_room():
    room = ReadingRoom.within(300_000_000)
    assert 3 * room.bucket_bytes + room.work_bytes <= 300_000_000
    assert 3 * room.tape_bytes <= 300_000_000
    assert 2 * room.slab_bytes + 2 * room.work_bytes + room.kept_bytes <= 300_000_000


def test_files_that_are_open_together_share_what_they_hold():
    usual, shared = ReadingRoom(), ReadingRoom().among(4)
    assert 4 * shared.bucket_bytes == usual.bucket_bytes
    assert 4 * shared.tape_bytes == usual.tape_bytes
    assert shared.slab_bytes == usual.slab_bytes  # one of them is read at a time
    assert ReadingRoom.within(0).among(4) == ReadingRoom.within(0)


@pytest.fixture(scope="module")
def counts() -> sparse.csr_matrix:
    rng = np.random.default_rng(0)
    return sparse.random(N_CELLS, N_GENES, 0.3, "csr", np.float32, rng, lambda n: rng.integers(1, 9, n).astype("f4"))


def written(folder: Path, matrix: object, **storage: object) -> Path:
    cells = ad.AnnData(matrix, pd.DataFrame(index=[f"c{i}" for i in range(N_CELLS)]))
    cells.var_names = [f"G{i}" for i in range(N_GENES)]
    cells.write_h5ad(folder / "cells.h5ad", **storage)
    return folder / "cells.h5ad"


KINDS = {
    "dense": (lambda m: m.toarray(), {}),
    "dense of float64": (lambda m: m.toarray().astype(np.float64), {}),
    "dense of bytes": (lambda m: m.toarray().astype(np.uint8), {}),
    "dense, gzip": (lambda m: m.toarray(), {"compression": "gzip"}),
    "csr": (lambda m: m, {}),
    "csr of float64, gzip": (lambda m: m.astype(np.float64), {"compression": "gzip"}),
    "csc": (lambda m: m.tocsc(), {}),
    "csc, gzip": (lambda m: m.tocsc(), {"compression": "gzip"}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("room", [ReadingRoom.within(0), ROOM], ids=["smallest", "usual"])
def test_reading_takes_no_more_than_it_says(kind: str, room: ReadingRoom, counts, tmp_path: Path):
    change, storage = KINDS[kind]
    with open_cells(written(tmp_path, change(counts), **storage), room=room, threads=1) as source:
        assert isinstance(source, GroupCells)
        assert isinstance(source.rows, Weighed)
        told = source.rows.weight(RANGE, int(np.diff(counts.indptr).max()))
        taken = 0
        blocks = source.blocks(grid(N_CELLS, RANGE))
        for _ in range(len(grid(N_CELLS, RANGE))):
            tracemalloc.start()
            block = next(blocks)
            taken = max(taken, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            del block
    assert taken <= told + SLACK
    assert told <= 12 * max(taken, 4_000_000)  # nor so much that small budgets would be refused for nothing


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_pieces_give_the_same_cells(kind: str, counts, tmp_path: Path, same):
    change, storage = KINDS[kind]
    path = written(tmp_path, change(counts), **storage)
    with open_cells(path) as usual, open_cells(path, room=ReadingRoom(1, 800, 1, 1, 1)) as smallest:
        spans = grid(N_CELLS, RANGE)
        assert all(same(a, b) for a, b in zip(usual.blocks(spans), smallest.blocks(spans), strict=True))
