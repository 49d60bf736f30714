"""Files of cells that somebody has tampered with: a good one comes in, the same with one thing wrong goes out."""

import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

Tamper = Callable[[h5py.File], object]

_MIB = 2**20
_SCALE_OFFSET = 6  # comes with HDF5, and no file of cells needs it
_FOREIGN = 32_015  # zstd


def external_link(file: h5py.File) -> None:
    file["uns/other"] = h5py.ExternalLink("/etc/passwd", "/")


def external_matrix(file: h5py.File) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink("other.h5ad", "/X")


def soft_link(file: h5py.File) -> None:
    file["uns/other"] = h5py.SoftLink("/obs")


def soft_link_out(file: h5py.File) -> None:
    file["uns/zoo"] = h5py.ExternalLink("other.h5ad", "/")
    file["obs/other"] = h5py.SoftLink("/uns/zoo/secret")


def soft_link_loop(file: h5py.File) -> None:
    file["uns/a"], file["uns/b"] = h5py.SoftLink("/uns/b"), h5py.SoftLink("/uns/a")


def group_in_itself(file: h5py.File) -> None:
    group = file["uns"].create_group("a")
    group["again"] = file["uns"]


def two_names(file: h5py.File) -> None:
    file["uns/other"] = file["obs"]


def external_storage(file: h5py.File) -> None:
    file["obsm"].create_dataset("other", (4, 10), "u1", external=[("/etc/passwd", 0, 40)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 10), "f4")
    layout[:] = h5py.VirtualSource("other.h5ad", "X", (4, 10))
    file["obsm"].create_virtual_dataset("other", layout)


def foreign_filter(file: h5py.File) -> None:
    stored = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    stored.set_chunk((10,))
    stored.set_filter(_FOREIGN, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file["uns"].id, b"other", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((10,)), stored)


def little_used_filter(file: h5py.File) -> None:
    file.create_dataset("uns/other", data=np.arange(100), chunks=(10,), scaleoffset=0)


def references(file: h5py.File) -> None:
    file["uns/other"] = np.array([file["obs"].ref], h5py.ref_dtype)


def region_reference(file: h5py.File) -> None:
    file["uns"].attrs["other"] = file["obs/_index"].regionref[:2]


def categories_elsewhere(file: h5py.File) -> None:
    file["obs/_index"].attrs["categories"] = file["uns"].ref


def opaque(file: h5py.File) -> None:
    file["uns/other"] = np.void(pickle.dumps({"a": 1}))


def ragged(file: h5py.File) -> None:
    file.create_dataset("uns/other", (3,), h5py.vlen_dtype(np.int32))


def named_type(file: h5py.File) -> None:
    file["uns/other"] = np.dtype("f4")


def large_attribute(file: h5py.File) -> None:
    file["uns"].attrs["other"] = "x" * 3 * _MIB


def many_attributes(file: h5py.File) -> None:
    group = file.create_group("uns/other", track_order=True)
    for i in range(1100):
        group.attrs[str(i)] = i


def huge_shape(file: h5py.File) -> None:
    file.create_dataset("uns/other", (10**6, 10**6), "f4", chunks=(100, 100))


def huge_chunk(file: h5py.File) -> None:
    file.create_dataset("uns/other", (10,), "f4", chunks=(2**28,), maxshape=(None,), compression="gzip")


def huge_texts(file: h5py.File) -> None:
    file.create_dataset("uns/other", (1,), "S10000000")


def chunk_of_zeros(file: h5py.File) -> None:
    """A chunk that says that it is 1 MiB, and unpacks to 300."""
    array = file.create_dataset("uns/other", (_MIB,), "u1", chunks=(_MIB,), compression="gzip")
    array.id.write_direct_chunk((0,), _zeros(300))


def _zeros(mib: int) -> bytes:
    """What so many MiB of zeros are packed to."""
    pack = zlib.compressobj()
    head = pack.compress(bytes(_MIB)) + pack.flush(zlib.Z_FULL_FLUSH)
    block = pack.compress(bytes(_MIB)) + pack.flush(zlib.Z_FULL_FLUSH)  # stands for itself, so it may be repeated
    return head + block * (mib - 1)


def swollen_chunk(file: h5py.File) -> None:
    array = file.create_dataset("uns/other", (10,), "u1", chunks=(10,), compression="gzip")
    array.id.write_direct_chunk((0,), bytes(_MIB))


def packed_twice(file: h5py.File) -> None:
    stored = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    stored.set_chunk((10,))
    stored.set_deflate(1)
    stored.set_deflate(1)
    h5py.h5d.create(file["uns"].id, b"other", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((10,)), stored)


def deep(file: h5py.File) -> None:
    group = file["uns"]
    for _ in range(40):
        group = group.create_group("a")


def index_of_another(file: h5py.File) -> None:
    file["var"].attrs["_index"] = "/obs/_index"


def index_outside(file: h5py.File) -> None:
    file["var"].attrs["_index"] = "../obs/_index"


def index_of_many(file: h5py.File) -> None:
    file["var"].attrs["_index"] = np.array(["_index", "other"], object)


def column_of_another(file: h5py.File) -> None:
    file["obs"].attrs["column-order"] = np.array(["cell_type", "/var/_index"], object)


def short_column(file: h5py.File) -> None:
    file["obs"]["other"] = np.arange(2)


def code_without_word(file: h5py.File) -> None:
    file["obs/cell_type/codes"][1] = 99


def other_cells_in_obsm(file: h5py.File) -> None:
    file["obsm/other"] = np.zeros((2, 3), np.float32)


def matrix_of_other_cells(file: h5py.File) -> None:
    file["X"].attrs["shape"] = (3, 10)


def backwards(file: h5py.File) -> None:
    file["X/indptr"][1] = 10**9


def shared_text(path: Path) -> None:
    """A column in which ten thousand names are one text of a megabyte, which lies in the file once."""
    n = 10_000
    with h5py.File(path, "r+") as file:
        column = file.create_dataset("uns/other", (n,), h5py.string_dtype(), fillvalue="")
        column[0] = "x" * _MIB
        place = column.id.get_offset()
    with path.open("r+b") as stream:
        stream.seek(place)
        first = stream.read(16)  # length, address and number of the text
        stream.seek(place)
        stream.write(first * n)


def endless_heap(path: Path) -> None:
    """A heap whose first object is so long that the next one begins where it does: HDF5 2.0 reads on for ever."""
    held = bytearray(path.read_bytes())
    size = held.index(b"GCOL") + 24
    held[size : size + 8] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(held)


def user_block(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n".ljust(512, b"\0") + path.read_bytes())


def broken_superblock(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[8:96] = b"\xff" * 88
    path.write_bytes(held)


def cut(path: Path) -> None:
    held = path.read_bytes()
    path.write_bytes(held[: len(held) // 2])


LINKS: dict[Tamper, str] = {
    external_link: "a link into another file at /uns/other",
    external_matrix: "a link into another file at /X",
    soft_link: "a soft link at /uns/other",
    soft_link_out: "a soft link at /obs/other",
    soft_link_loop: "a soft link at /uns/a",
    group_in_itself: "/uns/a/again under another name",
    two_names: "/uns/other under another name",
}
STORAGE: dict[Tamper, str] = {
    external_storage: "values in another file",
    virtual: "a virtual data set",
    foreign_filter: "the filter 32015",
    little_used_filter: f"the filter {_SCALE_OFFSET}",
    huge_shape: "unpacks to more than",
    huge_chunk: "has chunks of 1.1 GB",
    chunk_of_zeros: "a chunk that unpacks to more than its values take",
    swollen_chunk: "a chunk of 1.0 MB, more than its values take",
    packed_twice: "packed twice",
}
TYPES: dict[Tamper, str] = {
    references: "holds references",
    region_reference: "holds references",
    categories_elsewhere: "leads elsewhere",
    opaque: "bytes of an unknown meaning",
    ragged: "arrays of any length",
    named_type: "a named type",
    huge_texts: "texts of 10,000,000 bytes",
    large_attribute: "attributes of more than 1.0 MB",
    many_attributes: "1,100 attributes",
    deep: "nests groups deeper than 32",
}
SHAPES: dict[Tamper, str] = {
    index_of_another: "var of pbmc.h5ad names '/obs/_index'",
    index_outside: "var of pbmc.h5ad names '../obs/_index'",
    index_of_many: "var of pbmc.h5ad names what is no text",
    column_of_another: "obs of pbmc.h5ad names '/var/_index'",
    short_column: "obs['other'] of pbmc.h5ad has 2 values; expected 4",
    code_without_word: "has the code 99",
    other_cells_in_obsm: "obsm['other'] of pbmc.h5ad has the shape (2, 3); expected 4 rows",
    matrix_of_other_cells: "indptr",
    backwards: "an indptr that decreases or leaves",
}
BYTES: dict[Callable[[Path], object], str] = {
    shared_text: "more text than the file has bytes",
    user_block: "is not an HDF5 file (it begins with b'#!/bin/s')",
    broken_superblock: "cannot be read",
    cut: "cannot be read",
}
