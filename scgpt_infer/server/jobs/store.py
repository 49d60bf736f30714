"""The folders of jobs: `JobStore` makes, finds, ends and removes them.

What a job is shows in its files alone, so that any server that shares the disk sees the same: ``job.json`` makes it
one, ``end.json`` ends it, and whoever puts that first decides how. It knows neither HTTP nor models.
"""

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import msgspec

from scgpt_infer.server.jobs.records import Ended, Job, Progress, Submitted
from scgpt_infer.writers.sink import beside, fsync, output_errors
from scgpt_runtime.errors import OutputError

__all__ = ["JobStore", "discard"]

_log = logging.getLogger(__name__)
_ID = re.compile("[0-9a-f]{32}")
_GONE = ".gone."
_FOLDER_MODE = 0o700
_UPLOAD_DEAD_S = 3600.0
"""An upload to which nothing was added for so long has lost its client, or the server that took it."""

_Record = TypeVar("_Record")


class JobStore:
    """Jobs in a folder that several servers may share.

    Parameters
    ----------
    root
        The folder; made where it is missing.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()  # processes of jobs run elsewhere
        self._ended: dict[str, Job] = {}  # whose files never change again, so that they are read once

    def begin(self) -> Path:
        """A new folder for an upload, which is no job yet."""
        folder = self.root / uuid4().hex
        folder.mkdir(_FOLDER_MODE)
        (folder / "upload").mkdir()
        return folder

    def submit(self, folder: Path, submitted: Submitted) -> Job:
        """Make the folder of a finished upload a job."""
        _put(folder / "job.json", submitted)
        fsync(self.root)
        return Job(folder.name, folder, submitted, Progress(), None)

    def find(self, job_id: str) -> Job | None:
        """The job of this id; None where there is none."""
        if not _ID.fullmatch(job_id):
            return None
        folder = self.root / job_id
        submitted = _read(folder / "job.json", Submitted)
        if submitted is None:
            return None
        end = folder / "end.json"
        has_ended, ended = end.exists(), _read(end, Ended)
        if has_ended and ended is None:
            return None
        progress = _read(folder / "progress.json", Progress) or Progress()  # after its end, so that it is the last
        return Job(job_id, folder, submitted, progress, ended)

    def all(self) -> list[Job]:
        """All jobs, the oldest first."""
        found = [job for name in self._names() if (job := self._ended.get(name) or self.find(name)) is not None]
        self._ended = {job.id: job for job in found if job.ended is not None}
        return sorted(found, key=lambda job: (job.submitted.created, job.id))

    def n_open(self) -> int:
        """Jobs that have not ended."""
        folders = [self.root / name for name in self._names()]
        return sum((folder / "job.json").exists() and not (folder / "end.json").exists() for folder in folders)

    def is_ended(self, job: Job) -> bool:
        """Whether a job has ended, or is gone; a look at one file."""
        return not (job.folder / "job.json").exists() or (job.folder / "end.json").exists()

    def tell(self, job: Job, progress: Progress) -> None:
        """Say how far the work is, where there is room to say it; by the holder of the lease alone."""
        temporary = job.folder / ".progress.json"
        with suppress(OSError):  # the job was removed, or the disk is full: the work itself finds it out
            temporary.write_bytes(msgspec.json.encode(progress))
            temporary.replace(job.folder / "progress.json")

    def end(self, job: Job, ended: Ended) -> bool:
        """End a job, unless another has ended it; the upload and what was at work go. Returns whether it was this.

        Raises
        ------
        OutputError
            It has made its results, and cannot tell of them.
        """
        try:
            first = _put_first(job.folder / "end.json", ended)
        except OutputError:
            if not job.folder.exists():
                return False
            if ended.state == "succeeded":
                raise
            self.tidy(job)  # its own files fill the disk
            first = _put_first(job.folder / "end.json", ended)
        self.tidy(job)
        return first

    def tidy(self, job: Job) -> None:
        """Remove what an ended job needs no more: the upload, and what was at work."""
        ended = _read(job.folder / "end.json", Ended)
        kept = {made.name for made in ended.made} if ended is not None else set()
        shutil.rmtree(job.upload.parent, ignore_errors=True)
        for left in job.results.iterdir() if job.results.is_dir() else ():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            elif left.name not in kept:
                left.unlink(missing_ok=True)

    def remove(self, job: Job) -> None:
        """Remove a job with all its files; whoever works on it finds that it is gone."""
        self._remove(job.folder)

    def sweep(self, ttl: float) -> None:
        """Remove jobs that ended longer ago than `ttl` seconds, uploads that nobody goes on with, and leftovers."""
        os.utime(self.root)
        now = self.root.stat().st_mtime  # by the clock that stamps files: servers may have others
        for name in self._names():
            folder = self.root / name
            if (folder / "end.json").exists():  # of whatever version: that it ended is enough
                age = now - _stamp(folder / "end.json", now)
                if age > ttl:
                    _log.info("job %s ended %.0f s ago and is removed", name, age)
                    self._remove(folder)
            elif not (folder / "job.json").exists() and now - _touched(folder, now) > _UPLOAD_DEAD_S:
                self._remove(folder)
        for folder in self.root.glob(f"{_GONE}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def used_bytes(self) -> int:
        """Bytes of all files of all jobs; of an upload in progress those that it will have, where it told them."""
        return sum(file.size for file in _files(self.root))

    def _names(self) -> list[str]:
        return [name for name in os.listdir(self.root) if _ID.fullmatch(name)]

    def _remove(self, folder: Path) -> None:
        gone = self.root / f"{_GONE}{folder.name}.{uuid4().hex}"
        with suppress(FileNotFoundError):
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove the folder of an upload that becomes no job."""
    shutil.rmtree(folder, ignore_errors=True)


def _put(path: Path, record: object) -> None:
    with beside(path) as temporary:
        temporary.write_bytes(msgspec.json.encode(record))
        fsync(temporary)
        temporary.replace(path)
    fsync(path.parent)


def _read(path: Path, kind: type[_Record]) -> _Record | None:
    """What a file tells; None where there is none, or none that this version can read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError as error:
        _warn(path, str(error))
        return None


@lru_cache(maxsize=1024)  # told once: jobs are looked at twice a second
def _warn(path: Path, why: str) -> None:
    _log.warning("%s cannot be read: %s", path, why)


def _put_first(final: Path, record: object) -> bool:
    """Write a file unless there is one; whether this was the first."""
    with output_errors(final), beside(final) as temporary:
        temporary.write_bytes(msgspec.json.encode(record))
        fsync(temporary)
        first = _linked(temporary, final)
        fsync(final.parent)
    return first


def _linked(temporary: Path, final: Path) -> bool:
    """Give a file its name unless another has it; links are what network disks let one alone do."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if final.exists():
            return False
        temporary.replace(final)  # a disk without links
    return True


@dataclass(frozen=True, slots=True)
class _File:
    size: int
    touched: float


def _files(folder: Path) -> Iterator[_File]:
    """All files below a folder; what goes meanwhile is left out."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
                continue
            with suppress(FileNotFoundError):
                state = entry.stat(follow_symlinks=False)
                yield _File(state.st_size, state.st_mtime)


def _touched(folder: Path, now: float) -> float:
    """When something was last written below a folder; now, where it is gone."""
    return max([_stamp(folder, now), *(file.touched for file in _files(folder))])


def _stamp(path: Path, now: float) -> float:
    """When something was last written; now, where it is not there."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return now
