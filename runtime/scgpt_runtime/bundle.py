"""A bundle on disk: `Bundle.open` takes one, `seal` and `pack` make one.

In: a folder or a zip. Out: its manifest, and paths of files that are the ones which were sealed. It opens
no graph. Nothing in a bundle is code: JSON, arrays, ONNX graphs whose data files are the bundle's own.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Self

from scgpt_runtime.archive import pack, unpack
from scgpt_runtime.digests import Digests, sha256_of
from scgpt_runtime.errors import BundleChangedError, BundleError, ProviderError
from scgpt_runtime.external import external_locations
from scgpt_runtime.golden import Golden
from scgpt_runtime.kept import Kept
from scgpt_runtime.manifest import FileRecord, GraphRecord, Manifest, inside
from scgpt_runtime.modalities import Modalities
from scgpt_runtime.vocab import Vocabulary

__all__ = ["Bundle", "pack", "seal"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files are the ones that were sealed.

    Attributes
    ----------
    path
        The folder; for a zip, where it was unpacked.
    manifest
        What the bundle says of itself.
    digest
        sha256 of ``manifest.json`` as hex, when it was opened: the manifest has that of every other file, so one number
        stands for the bundle.
    kept
        Keeps open what is opened of it, from one use to the next. None: each use opens for itself.
    """

    path: Path
    manifest: Manifest
    digest: str
    kept: Kept | None = field(default=None, compare=False, repr=False)

    @classmethod
    def open(cls, path: Path, cache_dir: Path | None = None) -> Self:
        """Open a bundle and prove that no file of it has changed.

        Sizes are compared every time, sha256 once per state of a file. Files that the manifest does not list are
        never opened.

        Parameters
        ----------
        path
            A bundle folder, or a zip of one.
        cache_dir
            Where zips are unpacked and verified digests remembered; None: a private temporary folder, and every
            opening reads every file.

        Raises
        ------
        BundleError
            There is no bundle at ``path``.
        BundleChangedError
            A file is missing or not the one that was sealed; it is named.
        BundleTooNewError
            The format is newer than this runtime reads.
        """
        path = Path(path)
        if not path.is_file():
            return cls._proven(path, cache_dir)
        folder = _unpacked(path, cache_dir)
        try:
            return cls._proven(folder, cache_dir)
        except BundleError:
            # What was unpacked once may have been damaged since; the zip is still the one that was given.
            shutil.rmtree(folder, ignore_errors=True)
            return cls._proven(_unpacked(path, cache_dir), cache_dir)

    @classmethod
    def _proven(cls, folder: Path, cache_dir: Path | None) -> Self:
        text = _manifest_text(folder)
        manifest = Manifest.from_json(text)
        if not manifest.files:
            raise BundleError(f"{folder} was never sealed: its manifest lists no files. Export the bundle again.")
        _verify(folder, manifest, Digests(folder, cache_dir))
        return cls(folder, manifest, _digest(text))

    def graph(self, task: str, precision: str, dialect: str = "portable") -> GraphRecord:
        """The graph for a task.

        Raises
        ------
        BundleError
            The bundle has no graph for the task or dialect.
        ProviderError
            It has, but not in this precision.
        """
        of_task = [graph for graph in self.manifest.graphs if graph.task == task]
        if not of_task:
            tasks = ", ".join(sorted({graph.task for graph in self.manifest.graphs}))
            raise BundleError(f"Bundle {self.manifest.name} holds no graph for {task}; it holds {tasks or 'none'}.")
        of_precision = [graph for graph in of_task if graph.precision == precision]
        if not of_precision:
            sealed = ", ".join(dict.fromkeys(graph.precision for graph in of_task))
            raise ProviderError(
                f"Bundle {self.manifest.name} has no {precision} graph for {task}; sealed: {sealed}. "
                "Take one of these, or export again with fp32, fp16 or int8 in --precision."
            )
        for graph in of_precision:
            if graph.dialect == dialect:
                return graph
        dialects = ", ".join(graph.dialect for graph in of_precision)
        raise BundleError(f"Bundle {self.manifest.name} has no {dialect} graph for {task}; it has {dialects}.")

    def file(self, relative: str) -> Path:
        """Path of a file that the manifest lists.

        Raises
        ------
        BundleError
            The manifest does not list it.
        """
        self._record(relative)
        return self.path / relative

    def sha256(self, relative: str) -> str:
        """sha256 that a file was sealed with, as hex."""
        return self._record(relative).sha256

    def check_digest(self, expected: str) -> None:
        """Make sure that this is the bundle that is expected.

        Parameters
        ----------
        expected
            ``sha256:`` and the digest, or the digest alone.

        Raises
        ------
        BundleChangedError
            It is another one.
        """
        if expected.removeprefix("sha256:").lower() != self.digest:
            raise BundleChangedError(
                f"{self.path} has the digest sha256:{self.digest}; expected {expected}. It is another bundle, or one "
                "that was changed: take it anew from where the digest was told."
            )

    def check_in_place(self) -> None:
        """Make sure that the bundle at its path is still this one: files that were opened since may be of another.

        Raises
        ------
        BundleChangedError
            Another one has taken its place.
        """
        if _digest(_manifest_text(self.path)) != self.digest:
            raise BundleChangedError(f"{self.path} became another bundle while it was being opened. Open it again.")

    def keeping(self, kept: Kept) -> Self:
        """The same bundle, whose vocabulary and graphs stay open until ``kept`` is closed.

        Parameters
        ----------
        kept
            Of this bundle alone.
        """
        return replace(self, kept=kept)

    def vocabulary(self) -> Vocabulary:
        """The genes that the model knows."""
        if self.kept is not None:
            return self.kept.of("vocabulary", self._vocabulary)
        return self._vocabulary()

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.from_json(self.file("vocab.json").read_text(encoding="utf-8"))

    def modalities(self) -> Modalities | None:
        """Which modality each token is of; None where the model was not trained on several."""
        if not self.manifest.modalities:
            return None
        if self.kept is not None:
            return self.kept.of("modalities", self._modalities)
        return self._modalities()

    def _modalities(self) -> Modalities:
        text = self.file("modalities.json").read_text(encoding="utf-8")
        found = Modalities.from_json(text, len(self.vocabulary()))
        if found.names != self.manifest.modalities:
            raise BundleError(f"modalities.json of {self.path} names other modalities than its manifest.")
        return found

    def golden(self) -> Golden:
        """The cells that prove the bundle on this machine."""
        return Golden.load(self.file("golden.npz"))

    def _record(self, relative: str) -> FileRecord:
        for record in self.manifest.files:
            if record.path == relative:
                return record
        raise BundleError(f"Bundle {self.manifest.name} has no file {relative}. Export it again.")


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Turn a folder of finished files into a bundle: digest every file and write ``manifest.json``.

    Parameters
    ----------
    folder
        Holds everything but the manifest; every file in it becomes part of the bundle.
    manifest
        All but `Manifest.files`, which is filled here.

    Returns
    -------
    Manifest
        The one that was written.

    Raises
    ------
    BundleError
        A graph is missing or refers to data outside the bundle, or a file is a link.
    """
    names = sorted(found.relative_to(folder).as_posix() for found in folder.rglob("*") if not found.is_dir())
    names = [name for name in names if name != "manifest.json"]
    for name in names:
        if (folder / name).is_symlink() or not inside(name):
            raise BundleError(f"{folder / name} is a link or has a name that no bundle can hold.")
    records = tuple(FileRecord(name, (folder / name).stat().st_size, sha256_of(folder / name)) for name in names)
    sealed = replace(manifest, files=records)
    text = sealed.to_json()
    _check_external(folder, sealed)
    (folder / "manifest.json").write_text(text, encoding="utf-8", newline="\n")
    return sealed


def _manifest_text(folder: Path) -> str:
    if not folder.is_dir():
        raise BundleError(f"{folder} does not exist. Expected a bundle: a folder with manifest.json, or a zip of one.")
    try:
        return (folder / "manifest.json").read_bytes().decode("utf-8")
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder / 'manifest.json'} cannot be read: {error}.") from error
    if (folder / "args.json").is_file():
        raise BundleError(
            f"{folder} is a scGPT checkpoint (it has args.json), not a bundle. Turn it into one first: "
            f"scgpt-infer export {folder} -o BUNDLE"
        )
    raise BundleError(f"{folder} is not a bundle: it has no manifest.json. scgpt-infer export makes bundles.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _unpacked(zip_path: Path, cache_dir: Path | None) -> Path:
    """Folder that holds the zip's files, unpacked once per content."""
    if not zipfile.is_zipfile(zip_path):
        raise BundleError(f"{zip_path} is neither a folder nor a zip. Expected a bundle of scgpt-infer export.")
    digests = Digests(zip_path, cache_dir)
    digest = digests.known(zip_path, "zip") or digests.compute(zip_path, "zip")
    digests.save()
    home = cache_dir / "bundles" if cache_dir is not None else None
    if home is None or not _writable(home):
        home = Path(tempfile.mkdtemp(prefix="scgpt-infer-"))
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    folder = home / digest[:32]
    if not folder.is_dir():
        unpack(zip_path, folder)
    return folder


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _verify(folder: Path, manifest: Manifest, digests: Digests) -> None:
    """Every listed file is there, inside the folder, and the one that was sealed."""
    home = folder.resolve()
    for record in manifest.files:
        path = folder / record.path
        if not path.is_file():
            raise BundleChangedError(f"{path} is missing. Take a fresh copy of the bundle.")
        if not path.resolve().is_relative_to(home):
            raise BundleError(f"{path} is a link out of the bundle. Copy the files themselves: cp -rL {folder} COPY")
        size = path.stat().st_size
        if size != record.size:
            raise BundleChangedError(
                f"{path} has {size:,} bytes, {record.size:,} were sealed. Take a fresh copy of the bundle."
            )
        if digests.known(path, record.path) == record.sha256:
            continue
        if digests.compute(path, record.path) != record.sha256:
            raise BundleChangedError(f"{path} is not the file that was sealed. Take a fresh copy of the bundle.")
    _check_external(folder, manifest)
    digests.save()


def _check_external(folder: Path, manifest: Manifest) -> None:
    """The data files of every graph are files of the bundle, in or below the graph's own folder.

    ONNX Runtime cannot be left to refuse them: 1.23 follows ``../`` and absolute paths.
    """
    listed = {record.path for record in manifest.files}
    for graph in manifest.graphs:
        path = folder / graph.path
        if not path.is_file() or path.stat().st_size == 0:
            raise BundleError(f"{path} is missing or empty.")
        locations = external_locations(path.read_bytes())
        home = PurePosixPath(graph.path).parent
        for location in sorted(locations):
            if not inside(location) or str(home / location) not in listed:
                raise BundleError(
                    f"{path} refers to {location!r}, which is not a file of the bundle. It is not opened."
                )
