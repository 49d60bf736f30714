"""What travels to a worker: paths and options, of which it makes the job itself. `Errand`, `EmbedErrand`.

It opens cells and models by the same doors as a run in one process. It knows no transport.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from scgpt_infer.annotating import AnnotateOptions
from scgpt_infer.job import Job
from scgpt_infer.memory.opening import open_within
from scgpt_infer.model import Model, Say
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.members import absolute
from scgpt_infer.readers.source import CellPaths, SetOfFiles
from scgpt_infer.scale.seats import Seat
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import CellsError
from scgpt_runtime.manifest import Manifest
from scgpt_runtime.providers import ProviderChoice

__all__ = ["EmbedErrand", "Errand"]


class Errand(Protocol):
    """Makes a job where a worker runs. It must be possible to pickle it."""

    def open(self, seat: Seat, say: Say) -> AbstractContextManager[Job]:
        """The job, open for as long as the context lasts.

        Parameters
        ----------
        seat
            What the worker has of its machine.
        say
            Told of steps that take time.
        """
        ...

    @property
    def options(self) -> EmbedOptions:
        """Of the job; provider, device, threads and instances are shared out among the workers."""
        ...

    @property
    def manifest(self) -> Manifest:
        """Of the model's bundle."""
        ...

    def settled(self, choice: ProviderChoice) -> "Errand":
        """The same errand for workers that come later: what the first one has chosen is left open no more."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedErrand:
    """The errand of embedding the cells of a file, and of telling their types.

    Attributes
    ----------
    cells
        Absolute path or paths, or an address.
    model
        Absolute path of a bundle, or ``demo``.
    options
        Of the job.
    manifest
        Of the bundle.
    cache_dir
        Where measurements are kept; None: the user's cache folder on each machine.
    how
        How types are told; None: vectors alone.
    bad
        Those of several files that could not be opened when the job began.
    strict
        Whether a file of several that cannot be read is an error.
    """

    cells: CellPaths
    model: Path | str
    options: EmbedOptions
    manifest: Manifest
    cache_dir: Path | None = None
    how: AnnotateOptions | None = None
    bad: frozenset[str] = frozenset()
    strict: bool = False

    @classmethod
    def of(
        cls,
        cells: CellPaths,
        source: CellSource,
        model: Path | str,
        opened: Model,
        cache_dir: Path | None = None,
        how: AnnotateOptions | None = None,
        *,
        strict: bool = False,
    ) -> "EmbedErrand":
        """The errand of a job that is about to be done.

        Parameters
        ----------
        cells, model
            As the user names them.
        source
            The cells, open.
        opened
            The model; its engine is not needed.
        cache_dir, how, strict
            See above.
        """
        bundle = opened.bundle
        named = model if str(model) == "demo" else bundle.path.absolute()  # packages lie elsewhere on other machines
        if how is not None:  # that no vectors are there that would do has been seen
            reference = None if how.reference is None else how.reference.absolute()
            how = replace(how, reference=reference, recompute=True)
        bad = frozenset[str]()
        if isinstance(source, SetOfFiles):  # all that were asked for: what a file is called does not depend on bad ones
            cells, bad = source.paths, frozenset(_absolute(one.path) for one in source.bad_files())
        return cls(absolute(cells), named, opened.options, bundle.manifest, cache_dir, how, bad, strict)

    @contextmanager
    def open(self, seat: Seat, say: Say) -> Iterator[Job]:
        """See `Errand`."""
        options = replace(self.options, device=seat.device, threads=seat.threads, instances=seat.instances)
        how: dict[str, Any] = {"cache_dir": self.cache_dir, "say": say, "budget": seat.budget}
        with open_within(self.cells, self.model, options, WorkOptions(strict=self.strict), **how) as (source, known):
            _check_whole(source, self.bad)
            if self.how is None:
                yield known.job(source)
                return
            with known.labels(self.how) as labels:
                yield known.labelling(source, labels)

    def settled(self, choice: ProviderChoice) -> "EmbedErrand":
        """See `Errand`."""
        chosen: dict[str, Any] = {"provider": choice.provider, "precision": choice.precision}
        return replace(self, options=replace(self.options, **chosen))


def _absolute(path: str) -> str:
    return str(absolute(path))


def _check_whole(source: CellSource, known: frozenset[str]) -> None:
    """Make sure that the same files can be opened as when the job began: rows would be others."""
    bad = {_absolute(one.path): one.reason for one in source.bad_files()} if isinstance(source, SetOfFiles) else {}
    for path in sorted(bad.keys() - known):
        raise CellsError(f"{path} could be opened when the job began, and cannot any more: {bad[path]}")
    for path in sorted(known - bad.keys()):
        raise CellsError(
            f"{path} could not be opened when the job began, and can be now. Run the same command again, with "
            "--no-resume (resume=False), so that its cells are taken."
        )
