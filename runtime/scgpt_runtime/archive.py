"""A bundle as one zip: packed with the same bytes every time, unpacked with nothing trusted.

In: a folder or a zip. Out: a zip or a folder. Sizes and sha256 come from the manifest inside; what the
manifest does not list is never written to disk.
"""

import contextlib
import hashlib
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path

from scgpt_runtime.errors import BundleChangedError, BundleError
from scgpt_runtime.manifest import FileRecord, Manifest, inside

__all__ = ["pack", "read_manifest", "unpack", "zip_entry"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_LARGEST_MANIFEST = 64 * 2**20
_CHUNK = 2**20


def zip_entry(name: str) -> zipfile.ZipInfo:
    """A zip entry that carries no date, owner or system of the machine that writes it."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


def pack(folder: Path, zip_path: Path) -> str:
    """Write a bundle folder as one zip, byte for byte the same for the same files.

    Parameters
    ----------
    folder
        A sealed bundle; only the files that its manifest lists go in.
    zip_path
        Where the zip goes; an existing file is replaced once the new one is whole.

    Returns
    -------
    str
        sha256 of the zip, as hex.
    """
    manifest = Manifest.from_json((folder / "manifest.json").read_text(encoding="utf-8"))
    beside = zip_path.with_name(zip_path.name + ".part")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name in sorted(["manifest.json", *(record.path for record in manifest.files)]):
                entry = zip_entry(name)
                entry.file_size = (folder / name).stat().st_size
                with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
        beside.replace(zip_path)
    finally:
        beside.unlink(missing_ok=True)
    with zip_path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(archive: zipfile.ZipFile) -> tuple[Manifest, str]:
    """The manifest of a zipped bundle, and the folder inside the zip that it lies in ("" or "name/").

    Raises
    ------
    BundleError
        There is no manifest at the top or in the one folder at the top.
    """
    names = [name for name in archive.namelist() if name == "manifest.json" or name.endswith("/manifest.json")]
    names = [name for name in names if name.count("/") <= 1]
    if len(names) != 1:
        raise BundleError(f"{archive.filename} holds no manifest.json, so it is not a zip of a bundle.")
    entry = archive.getinfo(names[0])
    if entry.file_size > _LARGEST_MANIFEST:
        raise BundleError(f"{archive.filename}: manifest.json is {entry.file_size:,} bytes, too large to be one.")
    with archive.open(entry) as file:
        text = file.read(_LARGEST_MANIFEST + 1)
    return Manifest.from_json(text.decode("utf-8", "replace")), names[0].removesuffix("manifest.json")


def unpack(zip_path: Path, folder: Path) -> None:
    """Unpack the files that a zipped bundle's manifest lists, checking size and sha256 of each on the way.

    Parameters
    ----------
    zip_path
        The zip.
    folder
        Made by this call; it appears under its name only when it is whole.

    Raises
    ------
    BundleError
        Not a zip of a bundle, or one with entries that no bundle has; or there is no room to unpack it.
    BundleChangedError
        A file is missing or not the one that was sealed.
    """
    beside = _beside(folder)
    try:
        with zipfile.ZipFile(zip_path) as archive:
            manifest, top = read_manifest(archive)
            _check_room(manifest, beside)
            for record in manifest.files:
                _unpack_one(archive, top, record, beside)
            (beside / "manifest.json").write_bytes(archive.read(top + "manifest.json"))
        with contextlib.suppress(OSError):  # another process may have been faster
            beside.rename(folder)
        if not folder.is_dir():
            raise BundleError(f"{zip_path} could not be unpacked to {folder}.")
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise BundleError(f"{zip_path} cannot be read as a zip: {error}. Take a fresh copy of the bundle.") from error
    except OSError as error:
        raise BundleError(
            f"{zip_path} could not be unpacked to {folder.parent}: {error}. Make room there, or unpack the zip "
            "yourself and name the folder."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _beside(folder: Path) -> Path:
    """A new folder for what is not whole yet."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder.parent, suffix=".part"))
    except OSError as error:
        raise BundleError(f"No folder can be made in {folder.parent} to unpack a zip to: {error}.") from error


def _check_room(manifest: Manifest, folder: Path) -> None:
    needed, free = sum(record.size for record in manifest.files), shutil.disk_usage(folder).free
    if needed > free:
        raise BundleError(f"The bundle unpacks to {needed:,} bytes, but {folder.parent} has {free:,} bytes left.")


def _unpack_one(archive: zipfile.ZipFile, top: str, record: FileRecord, folder: Path) -> None:
    entries = [entry for entry in archive.infolist() if entry.filename == top + record.path]
    if not entries:
        raise BundleChangedError(f"{record.path} is missing from {archive.filename}. Take a fresh copy of the bundle.")
    entry = entries[0]
    odd = len(entries) > 1 or stat.S_ISLNK(entry.external_attr >> 16) or not inside(record.path)
    if odd:
        raise BundleError(f"{record.path} in {archive.filename} is a link or comes twice; no bundle holds such a file.")
    digest, left = hashlib.sha256(), record.size
    target = folder / record.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            file.write(chunk)
    if left != 0 or digest.hexdigest() != record.sha256:
        raise BundleChangedError(
            f"{record.path} in {archive.filename} is not the file that was sealed. Take a fresh copy of the bundle."
        )
