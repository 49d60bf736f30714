import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.errors import BundleError
from scgpt_runtime.golden import Golden


def perturbed() -> Golden:
    """The toy's cells with a flag and a predicted value for each token."""
    golden = toy.golden()
    flags = (np.arange(len(golden.ids)) % 5 == 0).astype(np.uint8)
    return replace(golden, flags=flags, profiles=np.linspace(0, 3, len(golden.ids), dtype=np.float32))


@pytest.mark.parametrize("golden", [toy.golden(), perturbed()])
def test_reads_back_what_it_wrote_to_the_bit(tmp_path, golden):
    golden.save(tmp_path / "golden.npz")
    read = Golden.load(tmp_path / "golden.npz")
    for field in fields(Golden):
        found, written = getattr(read, field.name), getattr(golden, field.name)
        assert (found is None) == (written is None)
        np.testing.assert_array_equal(found, written)
        assert written is None or found.dtype == written.dtype


def test_the_same_cells_give_the_same_bytes(tmp_path):
    toy.golden().save(tmp_path / "a.npz")
    toy.golden().save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_block_holds_token_ids_as_columns():
    golden = toy.golden()
    block = golden.block()
    assert block.n_cells == golden.n_cells
    assert block.indices.dtype == np.int32
    np.testing.assert_array_equal(block.indices, golden.token_ids)


@pytest.mark.parametrize(
    "change",
    [
        {"data": np.zeros(3, np.float32)},
        {"indptr": np.array([0, 480], np.int64)},
        {"offsets": np.zeros(17, np.int64)},
        {"vectors": np.zeros((3, 4), np.float32)},
        {"vectors": np.zeros(16, np.float32)},
        {"token_ids": np.zeros(3, np.uint16)},
        {"indptr": np.array([], np.int64)},
        {"flags": np.zeros(3, np.uint8), "profiles": np.zeros(3, np.float32)},
        {"flags": np.zeros(len(toy.golden().ids), np.uint8)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change):
    replace(toy.golden(), **change).save(tmp_path / "golden.npz")
    with pytest.raises(BundleError, match="do not fit"):
        Golden.load(tmp_path / "golden.npz")


def test_what_is_no_golden_file_is_refused(tmp_path):
    path = tmp_path / "golden.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(BundleError, match="cannot be read"):
        Golden.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", b"no array")
    with pytest.raises(BundleError, match="cannot be read"):
        Golden.load(path)
    np.savez(path, **{field.name: np.array([None]) for field in fields(Golden)})
    with pytest.raises(BundleError, match="pickle"):
        Golden.load(path)
