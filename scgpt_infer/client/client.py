"""`Client`: a server of scgpt-infer for programs that wait for their answers.

In: cells as users have them. Out: what `scgpt_infer.embed` and its like give. What is said to a server, and when again,
is decided elsewhere (`asking`, `jobs`, `retrying`); here connections are opened and cells are.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from scgpt_infer.client import jobs, models
from scgpt_infer.client.asking import begun
from scgpt_infer.client.blocking import Blocking
from scgpt_infer.client.carrying import common
from scgpt_infer.client.gathering import Gathering
from scgpt_infer.client.given import GivenCells, is_as_served, opened
from scgpt_infer.client.models import ServedModel, Shelf
from scgpt_infer.client.question import Question, Rows
from scgpt_infer.client.retrying import Retry
from scgpt_infer.client.served_job import JobOptions, ServedJob
from scgpt_infer.client.terms import ReadOptions, Terms
from scgpt_infer.run import Progress

if TYPE_CHECKING:
    import ssl

    from anndata import AnnData

__all__ = ["Client"]

_AS_IT_IS = ReadOptions()
_RETRY = Retry()
_A_JOB = JobOptions()


class Client:
    """A server of scgpt-infer. A context manager; one may be used by several threads.

    Parameters
    ----------
    url
        Address of the server, such as ``http://localhost:8080``.
    api_key, model, timeout, retry, cells_per_request, in_flight
        See `Terms`.
    verify
        How the server's certificate is checked: True by the authorities that are known here, or an `ssl.SSLContext`.
    transport
        Carries requests in the place of a network, for tests.

    Raises
    ------
    OptionError
        A value is not allowed.
    MissingDependencyError
        httpx is not installed.

    Examples
    --------
    >>> with Client("http://localhost:8080") as client:          # doctest: +SKIP
    ...     adata = client.embed("cells.h5ad")
    ...     client.annotate(adata, inplace=True)
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout: float | None = 300.0,
        retry: Retry = _RETRY,
        cells_per_request: int = 256,
        in_flight: int = 4,
        verify: "bool | ssl.SSLContext" = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.terms = Terms(url, api_key, model, timeout, retry, cells_per_request, in_flight)
        self._line = Blocking(httpx.Client(**common(self.terms), verify=verify, transport=transport))
        self._shelf: Shelf = {}

    def embed(
        self,
        cells: GivenCells,
        genes: Sequence[str] | None = None,
        how: ReadOptions = _AS_IT_IS,
        *,
        model: str | None = None,
        inplace: bool = False,
        progress: Progress | None = None,
    ) -> "AnnData":
        """Embed cells, as `scgpt_infer.embed` does; several requests are on their way at a time.

        Parameters
        ----------
        cells
            An AnnData object (in memory or backed), or paths, as `scgpt_infer.embed` takes them; a matrix of cells by
            genes, of numpy or scipy; or a list of cells, each ``{gene: value}``, ``(genes, values)``, or as the server
            takes it: ``{"cell": name, "genes": {gene: value}}``.
        genes
            Names or Ensembl ids of the columns of a matrix; None for all else.
        how
            What is read of the cells, and where the embedding goes.
        model
            Name of the model. None: that of the client, else the server's first.
        inplace
            Add the embedding to the AnnData object that was given, and return that; else a copy is returned.
        progress
            Told the cells done and the cells in all.

        Returns
        -------
        AnnData
            With ``obsm["X_scGPT"]``, or as the model calls it: (n_cells, dim) float32, of unit length, NaN for a cell
            that cannot be embedded; and with ``uns["scgpt_infer"]``, which says how it was made. Of a matrix or a list,
            ``X`` has the values.

        Raises
        ------
        ServerError
            See `scgpt_infer.client.errors`.
        ScgptInferError
            The cells cannot be read, or do not fit the model.
        """
        return self._gathered(cells, genes, how, Question("embed"), model, inplace, progress)

    def annotate(
        self,
        cells: GivenCells,
        genes: Sequence[str] | None = None,
        how: ReadOptions = _AS_IT_IS,
        *,
        top: int = 3,
        unknown_below: float | None = None,
        model: str | None = None,
        inplace: bool = False,
        progress: Progress | None = None,
    ) -> "AnnData":
        """Tell the types of cells and embed them, as `scgpt_infer.annotate` does.

        Parameters
        ----------
        cells, genes, how, model, inplace, progress
            See `embed`.
        top, unknown_below
            See `scgpt_infer.AnnotateOptions`.

        Returns
        -------
        AnnData
            With what `embed` adds, and in ``obs`` the columns ``scgpt_label`` (categorical), ``scgpt_confidence``
            (float32), and the candidates ``scgpt_label_1``, ``scgpt_confidence_1``, and so on.
        """
        question = Question("annotate", top, unknown_below)
        return self._gathered(cells, genes, how, question, model, inplace, progress)

    def stream(
        self,
        cells: GivenCells,
        genes: Sequence[str] | None = None,
        how: ReadOptions = _AS_IT_IS,
        *,
        task: str = "embed",
        top: int = 3,
        unknown_below: float | None = None,
        model: str | None = None,
    ) -> Iterator[Rows]:
        """Answers as they come, in the order of the cells: neither all cells nor all answers are ever in memory.

        Parameters
        ----------
        cells, genes, how, model
            See `embed`.
        task
            ``embed`` or ``annotate``.
        top, unknown_below
            See `annotate`.

        Yields
        ------
        Rows
            The answers to one request.
        """
        question = Question(task, top, unknown_below)
        with opened(cells, genes, how) as (_, source):
            asking = self._line.run(begun(self.terms, how, question, source, model, self._shelf))
            with closing(self._line.in_order(asking.requests(), self.terms.in_flight)) as parts:
                for part in parts:
                    yield asking.rows(part)

    def call(
        self,
        task: str,
        cells: "GivenCells | Sequence[Mapping[str, Any]] | None" = None,
        columns: Sequence[str] | None = None,
        how: ReadOptions = _AS_IT_IS,
        *,
        obs: Sequence[str] = (),
        model: str | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Have another task done, such as ``impute`` or ``grn``.

        Parameters
        ----------
        task
            ``impute``, ``perturb``, ``integrate``, ``multiomic``, ``genes`` or ``grn``, as far as the model can.
        cells, how, model
            See `embed`. Or a list of cells as the server takes them (docs/serving/tasks.md), as cells of several
            modalities must be told. None for a task without cells.
        columns
            Names or Ensembl ids of the columns of a matrix, the `genes` of `embed`; tasks have an option of that name.
        obs
            Columns of ``obs`` that go with the cells, such as that of their batch.
        options
            Of the task, named as in Python.

        Returns
        -------
        dict
            The document; docs/json.md tells its form.
        """
        if cells is None or is_as_served(cells):
            told = {} if cells is None else {"cells": cells}
            return self._line.run(models.called(self.terms, task, model, {**told, **options}))
        with opened(cells, columns, how) as (_, source):
            asking = self._line.run(begun(self.terms, how, Question("embed"), source, model, self._shelf))
            found = asking.told(obs)
        return self._line.run(models.called(self.terms, task, asking.model.name, {**found, **options}))

    def models(self) -> list[dict[str, Any]]:
        """What the server says of its models, the first that of requests that name none."""
        return self._line.run(models.models(self.terms))

    def model(self, name: str | None = None) -> ServedModel:
        """A model that answers. None: that of the client, else the server's first."""
        return self._line.run(models.model(self.terms, name))

    def submit(self, path: str | Path, what: JobOptions = _A_JOB) -> ServedJob:
        """Hand in a whole file as a job; its bytes are streamed.

        Parameters
        ----------
        path
            A file of cells.
        what
            What shall become of it.
        """
        return self._line.run(jobs.submitted(self.terms, Path(path), what))

    def job(self, job_id: str) -> ServedJob:
        """A job as it is now."""
        return self._line.run(jobs.job(self.terms, job_id))

    def jobs(self) -> list[ServedJob]:
        """The jobs of this client's key, or all where the server asks for no keys."""
        return self._line.run(jobs.jobs(self.terms))

    def wait(self, job_id: str, progress: Progress | None = None, timeout: float | None = None) -> ServedJob:
        """Wait until a job is done.

        Parameters
        ----------
        job_id
            As `submit` gave it: ``client.wait(job.id)``.
        progress
            Told the cells done and the cells in all.
        timeout
            Seconds; None: as long as it takes.

        Raises
        ------
        JobFailedError
            It failed or was cancelled.
        DeadlineError
            It is not over after so many seconds; it goes on.
        """
        return self._line.run(jobs.waited(self.terms, job_id, progress, timeout))

    def fetch(self, job: ServedJob, folder: str | Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write the results of a job into a folder, each whole or not at all; returns their paths.

        Parameters
        ----------
        job
            As `wait` gave it.
        folder
            Is made where it is not there.
        names
            Results that are wanted. None: all.
        """
        return self._line.run(jobs.fetched(self.terms, job, Path(folder), names))

    def cancel(self, job_id: str) -> None:
        """Stop a job; one that is over goes away with its results."""
        self._line.run(jobs.cancelled(self.terms, job_id))

    def close(self) -> None:
        """Let go of all connections."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _gathered(
        self,
        cells: GivenCells,
        genes: Sequence[str] | None,
        how: ReadOptions,
        question: Question,
        model: str | None,
        inplace: bool,
        progress: Progress | None,
    ) -> "AnnData":
        """All answers, added to the cells."""
        with opened(cells, genes, how) as (given, source):
            asking = self._line.run(begun(self.terms, how, question, source, model, self._shelf))
            gathering = Gathering.of(asking, given, inplace, progress)
            with closing(self._line.in_order(asking.requests(), self.terms.in_flight)) as parts:
                for part in parts:
                    gathering.take(part)
            return gathering.attached()
