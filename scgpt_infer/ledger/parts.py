"""A part on the disk: the rows of one range, with the names of their cells, as an ``.npz`` file.

The same rows always make the same bytes, so that their sha256 tells whether two runs answered alike.
"""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.ledger.marks import Mark
from scgpt_infer.writers.sink import Part, beside, fsync
from scgpt_runtime.errors import OutputError

__all__ = ["Kept", "decode", "encode", "is_of", "is_there", "part_path", "read_names", "read_part", "write_part"]

_GROUPS = ("columns", "matrices", "tables")


@dataclass(frozen=True, slots=True)
class Kept:
    """A part, and the names of its cells."""

    part: Part
    names: tuple[str, ...]


def part_path(folder: Path, first_row: int) -> Path:
    """Where the part that begins with a row lies."""
    return folder / f"part-{first_row:012d}.npz"


def encode(kept: Kept, dtype: str = "float32") -> bytes:
    """The bytes of a part.

    Parameters
    ----------
    kept
        The part.
    dtype
        What its vectors are stored as.
    """
    part, words = kept.part, sorted(set(kept.part.reasons))
    arrays: dict[str, NDArray[Any]] = {
        "first_row": np.array(part.first_row, np.int64),
        "vectors": part.vectors.astype(dtype),
        "names": _text(kept.names),
        "reasons": np.array([words.index(reason) for reason in part.reasons], np.int32),
        "words": _text(words),
    }
    for group in _GROUPS:
        arrays |= {f"{group}/{name}": values for name, values in getattr(part, group).items()}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def decode(data: bytes) -> Kept:
    """The part that `encode` made bytes of; vectors come as float32."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    words = _words(found["words"])
    groups = {
        group: {name.partition("/")[2]: found[name] for name in found if name.startswith(f"{group}/")}
        for group in _GROUPS
    }
    reasons = tuple(words[place] for place in found["reasons"].tolist())
    part = Part(int(found["first_row"]), found["vectors"].astype(np.float32), reasons, **groups)
    return Kept(part, tuple(_words(found["names"])))


def write_part(folder: Path, kept: Kept, dtype: str, longest: int, batch_tokens: int) -> Mark:
    """Write a part, synced, under its name; what the ledger is to say of it.

    Parameters
    ----------
    folder
        Of the parts.
    kept, dtype
        See `encode`.
    longest, batch_tokens
        Tokens of its longest cell, and of a batch at the most.
    """
    data, part = encode(kept, dtype), kept.part
    final = part_path(folder, part.first_row)
    with beside(final) as temporary:
        temporary.write_bytes(data)
        fsync(temporary)
        os.replace(temporary, final)
        fsync(folder)
    return Mark(
        first_row=part.first_row,
        n_cells=part.n_cells,
        n_bad=sum(map(bool, part.reasons)),
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        longest=longest,
        batch_tokens=batch_tokens,
    )


def read_part(folder: Path, mark: Mark) -> Kept:
    """Read the part of a mark.

    Raises
    ------
    OutputError
        It is gone, or not the one that was written.
    """
    path = part_path(folder, mark.first_row)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}. {_REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != mark.sha256:
        raise OutputError(f"{path} is not the part that was written: its sha256 is not that of the ledger. {_REMEDY}")
    return decode(data)


def is_of(folder: Path, mark: Mark) -> bool:
    """Whether the part that there is is that of a mark, to the last bit."""
    try:
        return hashlib.sha256(part_path(folder, mark.first_row).read_bytes()).hexdigest() == mark.sha256
    except OSError:
        return False


def read_names(folder: Path, mark: Mark) -> list[str]:
    """Names of the cells of a mark's part; its other rows are neither read nor checked.

    Raises
    ------
    OutputError
        It cannot be read.
    """
    path = part_path(folder, mark.first_row)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _words(arrays["names"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise OutputError(f"{path} cannot be read: {error}. {_REMEDY}") from error


def is_there(folder: Path, mark: Mark) -> bool:
    """Whether the part of a mark has its size; that its bytes are right shows when it is read."""
    try:
        return part_path(folder, mark.first_row).stat().st_size == mark.size
    except OSError:
        return False


_REMEDY = "Remove it and run the job, or the shard, again: its rows are done anew."


def _text(words: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(list(words), ensure_ascii=False).encode("utf-8", "surrogateescape"), np.uint8)


def _words(text: NDArray[np.uint8]) -> list[str]:
    words: list[str] = json.loads(text.tobytes().decode("utf-8", "surrogateescape"))
    return words
