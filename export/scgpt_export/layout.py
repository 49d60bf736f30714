"""Where the files of a checkpoint are: a folder, a zip of one, or a weights file alone.

In: a path. Out: the paths of weights, ``args.json`` and ``vocab.json``, as far as they are there. It reads none.
"""

import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shutil import copyfileobj

from scgpt_runtime.errors import CheckpointError

__all__ = ["CheckpointFiles", "open_files"]

WEIGHTS_NAMES = ("best_model.pt", "model.pt")
"""What scGPT's pretraining and its annotation tutorial save under; the first that is there is taken."""

WEIGHTS_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".safetensors"})
ARGS, VOCABULARY = "args.json", "vocab.json"
LITTER = frozenset({"__MACOSX"})


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """Paths of a checkpoint's files; None for one that is not there."""

    weights: Path | None
    args: Path | None
    vocabulary: Path | None


@contextmanager
def open_files(path: Path) -> Iterator[CheckpointFiles]:
    """Find the files of the checkpoint at `path`; a zip is unpacked for as long as the context lasts.

    Raises
    ------
    CheckpointError
        There is nothing, or the zip is damaged or has names that lead out of it.
    """
    if path.is_dir():
        yield find(path)
    elif not path.exists():
        raise CheckpointError(f"There is no file or folder {path}: expected a scGPT checkpoint there.")
    elif path.suffix.lower() == ".zip":
        with tempfile.TemporaryDirectory(prefix="scgpt-checkpoint-") as folder:
            unpack(path, Path(folder))
            yield find(Path(folder))
    else:
        yield CheckpointFiles(weights=path, args=None, vocabulary=None)


def find(folder: Path) -> CheckpointFiles:
    """Files in a folder, or in the only folder inside it."""
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name not in LITTER)
    if len(entries) == 1 and entries[0].is_dir():
        return find(entries[0])
    present = {p.name: p for p in entries if p.is_file()}
    return CheckpointFiles(find_weights(present), present.get(ARGS), present.get(VOCABULARY))


def find_weights(present: dict[str, Path]) -> Path | None:
    """The weights among the files of a folder."""
    for name in WEIGHTS_NAMES:
        if name in present:
            return present[name]
    others = [path for path in present.values() if path.suffix.lower() in WEIGHTS_SUFFIXES]
    if len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise CheckpointError(
            f"Found several weights files ({names}) and expected one, or one named {WEIGHTS_NAMES[0]}: "
            "give the path of the one that is meant."
        )
    return others[0] if others else None


def unpack(path: Path, folder: Path) -> None:
    """Unpack the files of a checkpoint from a zip; all its names are looked at, the rest is left in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = safe_name(path, member)
                if member.is_dir() or not is_wanted(name):
                    continue
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("xb") as copy:
                    copyfileobj(source, copy)
    except FileExistsError as error:
        raise CheckpointError(f"{path} holds two files of one name: zip the checkpoint folder again.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a zip that can be read whole ({error}): download it again.") from error


def safe_name(path: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    """The member's name, if it stays inside the folder that it is unpacked to."""
    name = PurePosixPath(member.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename:
        raise CheckpointError(f"{path} holds the name {member.filename!r}, which leads out of the zip: it is refused.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise CheckpointError(f"{path} holds the symbolic link {member.filename!r}: zip the files themselves.")
    return name


def is_wanted(name: PurePosixPath) -> bool:
    """Whether a file of a zip can be one of a checkpoint's."""
    if name.name.startswith(".") or not LITTER.isdisjoint(name.parts):
        return False
    return name.name in {ARGS, VOCABULARY} or name.suffix.lower() in WEIGHTS_SUFFIXES
