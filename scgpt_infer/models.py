"""Which bundle ``--model`` means: a bundle, a checkpoint that is exported once into the user's cache, or ``demo``.

In: a name or path. Out: an open `Bundle`; one that is open already is given back as it is. It imports the exporter
only when there is a checkpoint to export.
"""

import atexit
import hashlib
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from scgpt_infer import __version__
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, CheckpointError, MissingDependencyError, OptionError
from scgpt_runtime.gpus import gpus

__all__ = ["SHIPPED", "AnyModel", "is_bundle", "lasting_cache", "open_bundle", "resolve", "usable_cache", "user_cache"]

AnyModel = str | Path | Bundle
"""A model as callers give it: by name, by path, or open."""

SHIPPED = ("demo",)
"""Names of the models that come with the package."""

_ACCEPTED = (
    "Expected a bundle (a folder or zip that scgpt-infer export made), a scGPT checkpoint (a folder or zip with "
    f"best_model.pt, args.json and vocab.json), or the name of a model that ships: {', '.join(SHIPPED)}."
)
_RECIPE = 4
"""Raised when an export of the same checkpoint holds other graphs: what is in the cache is made anew then."""

_WEIGHTS = (".pt", ".safetensors")
_WEIGHTS_ALONE = "{} holds weights alone. Give the folder with its args.json and vocab.json."

_log = logging.getLogger(__name__)


def resolve(
    model: AnyModel,
    cache_dir: Path | None = None,
    *,
    precision: str = "auto",
    say: Callable[[str], None] = _log.info,
) -> Bundle:
    """Open the bundle that a name or path means.

    Parameters
    ----------
    model
        ``demo``, or the path of a bundle or checkpoint, folder or zip. A checkpoint is exported the first time
        and found again by the content of its files. An open bundle is given back as it is.
    cache_dir
        Where exported bundles are kept; None: `user_cache`. One that cannot be written is replaced by a private
        temporary folder that goes when the process ends.
    precision
        Precision that an export must hold besides its usual ones.
    say
        Told of each step of an export.

    Raises
    ------
    OptionError
        When it is neither a name nor a path.
    BundleError
        When there is no such model.
    CheckpointError
        When the checkpoint cannot be loaded whole.
    MissingDependencyError
        When a checkpoint is to be exported and the export extra is not installed.
    """
    if isinstance(model, Bundle):
        return model
    cache_dir = usable_cache(cache_dir)
    path = _found(model)
    if _kind(path) == "bundle":
        return Bundle.open(path, cache_dir)
    return _exported(path, cache_dir, precision, say)


def open_bundle(model: str | Path, cache_dir: Path | None = None) -> Bundle:
    """Open the bundle that a name or path means; a checkpoint is refused, with the command that exports it.

    Raises
    ------
    BundleError
        When there is no bundle.
    """
    return Bundle.open(_found(model), usable_cache(cache_dir))


def user_cache(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The user's cache folder for scgpt-infer; None where the user has no home.

    Parameters
    ----------
    environment
        Tells ``XDG_CACHE_HOME``, which counts only when it is absolute, as its specification says.
    """
    told = Path(environment.get("XDG_CACHE_HOME", ""))
    if told.is_absolute():
        return told / "scgpt-infer"
    try:
        return Path.home() / ".cache" / "scgpt-infer"
    except RuntimeError:  # an unknown user id without HOME
        return None


def usable_cache(cache_dir: Path | None = None) -> Path:
    """A folder that can be written: the one given, else the user's, else a private temporary one."""
    return lasting_cache(cache_dir) or _private_cache()


def lasting_cache(cache_dir: Path | None = None) -> Path | None:
    """A folder that can be written and that the next process finds again; None where there is none."""
    folder = cache_dir or user_cache()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        _log.info("%s cannot be written (%s)", folder, error.strerror)
        return None


@cache
def _private_cache() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="scgpt-infer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _shipped(name: str) -> Path:
    folder = Path(str(files("scgpt_infer"))) / name / "bundle"
    if not (folder / "manifest.json").is_file():
        raise BundleError(f"This installation lacks its model {name!r} ({folder}). Install scgpt-infer again.")
    return folder


def _found(model: str | Path) -> Path:
    if isinstance(model, str) and model in SHIPPED:
        return _shipped(model)
    if not isinstance(model, (str, Path)):
        raise OptionError(f"model is {model!r}; expected a name or a path. {_ACCEPTED}")
    if not str(model).strip():
        raise BundleError(f"The model's name is empty. {_ACCEPTED}")
    path = Path(model).expanduser()
    if path.exists():
        return path
    is_name = isinstance(model, str) and os.sep not in model
    found = f"There is no model {model!r}, and no file or folder of that name" if is_name else f"There is no {path}"
    raise BundleError(f"{found}. {_ACCEPTED}")


def is_bundle(path: Path) -> bool:
    """Whether a folder or zip has a bundle's manifest; weights alone and other files have none."""
    if not path.is_dir() and not zipfile.is_zipfile(path):
        return False
    return "manifest.json" in _names(path)


def _kind(path: Path) -> Literal["bundle", "checkpoint"]:
    if not path.is_dir() and not zipfile.is_zipfile(path):
        if path.suffix in _WEIGHTS:
            raise CheckpointError(_WEIGHTS_ALONE.format(path))
        raise BundleError(f"{path} is neither a folder nor a zip. {_ACCEPTED}")
    names = _names(path)
    if not path.is_dir() and "data.pkl" in names:  # a file of torch.save is a zip itself
        raise CheckpointError(_WEIGHTS_ALONE.format(path))
    if "manifest.json" in names:
        return "bundle"
    has_weights = any(name.endswith(_WEIGHTS) for name in names)
    if not has_weights and ("golden.npz" in names or "graphs" in names):
        raise BundleError(f"{path} lacks manifest.json, and looks like a bundle otherwise. Take a fresh copy of it.")
    if any(_is_of_checkpoint(name) for name in names):
        return "checkpoint"
    raise BundleError(f"{path} is neither a bundle nor a checkpoint: it has {_listed(names)}. {_ACCEPTED}")


def _names(path: Path) -> list[str]:
    """Names of the files of a folder, or of a zip at any depth, and of the folders in them."""
    if path.is_dir():
        return [entry.name for entry in path.iterdir()]
    with zipfile.ZipFile(path) as archive:
        return list(dict.fromkeys(part for name in archive.namelist() for part in reversed(PurePosixPath(name).parts)))


def _is_of_checkpoint(name: str) -> bool:
    return name in ("args.json", "vocab.json") or name.endswith(_WEIGHTS)


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (" and more" if len(names) > 5 else "") if names else "nothing in it"


def _exported(path: Path, cache_dir: Path, precision: str, say: Callable[[str], None]) -> Bundle:
    """The bundle of a checkpoint: from the cache, else made now. Several processes may do this at once."""
    home = cache_dir / "exported"
    home.mkdir(exist_ok=True)
    final = home / _key(path, precision)
    if final.is_dir():
        try:
            return Bundle.open(final, cache_dir)
        except BundleError as error:
            say(f"the cached export is damaged and is made anew: {error}")
            shutil.rmtree(final)
    with tempfile.TemporaryDirectory(prefix=".export.", dir=home) as stage:
        made = _export(path, Path(stage) / "bundle", precision, say)
        try:
            made.rename(final)
        except OSError:
            if not final.is_dir():  # else another process was first, with the same bundle
                raise
    return Bundle.open(final, cache_dir)


def _export(path: Path, output: Path, precision: str, say: Callable[[str], None]) -> Path:
    try:
        from scgpt_export import build, checkpoint
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is a checkpoint, and exporting it needs {error.name or 'packages'}, which is not installed: "
            'pip install "scgpt-infer[export]". Or export it elsewhere and give the bundle.'
        ) from error
    say(f"{path} is a checkpoint: it is exported once and kept in {output.parent.parent}")
    options = build.ExportOptions(precisions=_precisions(precision), name=path.resolve().stem)
    build.export(checkpoint.load(path), output, options, say)
    return output


def _precisions(asked: str) -> tuple[str, ...]:
    usual = ("fp32", "fp16")
    if asked in ("auto", *usual) or (asked == "bf16" and not gpus()):  # a processor computes bf16 from the fp32 graph
        return usual
    return (*usual, asked)


def _key(path: Path, precision: str) -> str:
    told = [__version__, _RECIPE, _precisions(precision), sorted(_digests(path).items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _digests(path: Path) -> dict[str, str]:
    """sha256 of the files of a checkpoint, by the same names in a folder and in a zip of one."""
    if path.is_dir():
        return {file.name: _sha256(file.open("rb")) for file in path.iterdir() if _is_of_checkpoint(file.name)}
    with zipfile.ZipFile(path) as archive:
        members = {PurePosixPath(name).name: name for name in archive.namelist()}
        return {name: _sha256(archive.open(member)) for name, member in members.items() if _is_of_checkpoint(name)}


def _sha256(file: IO[bytes]) -> str:
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # the stub asks for a buffered reader; a zip's will do
