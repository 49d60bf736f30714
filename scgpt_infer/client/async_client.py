"""`AsyncClient`: a server of scgpt-infer for programs with an event loop; `Client`, awaited.

The same code decides what is said, and when again; see `scgpt_infer.client.client`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from scgpt_infer.client import jobs, models
from scgpt_infer.client.asking import begun
from scgpt_infer.client.awaiting import Awaiting, in_thread
from scgpt_infer.client.carrying import common
from scgpt_infer.client.gathering import Gathering
from scgpt_infer.client.given import GivenCells, is_as_served, opened
from scgpt_infer.client.models import ServedModel, Shelf
from scgpt_infer.client.question import Question, Rows
from scgpt_infer.client.retrying import Retry
from scgpt_infer.client.served_job import JobOptions, ServedJob
from scgpt_infer.client.terms import ReadOptions, Terms
from scgpt_infer.readers.source import CellPaths, CellSource
from scgpt_infer.run import Progress

if TYPE_CHECKING:
    import ssl

    from anndata import AnnData

__all__ = ["AsyncClient"]

_AS_IT_IS = ReadOptions()
_RETRY = Retry()
_A_JOB = JobOptions()


class AsyncClient:
    """A server of scgpt-infer. An asynchronous context manager; one may be used by several tasks.

    Parameters and methods are those of `Client`. Cells are read in threads, one at a time.

    Examples
    --------
    >>> async with AsyncClient("http://localhost:8080") as client:          # doctest: +SKIP
    ...     adata = await client.embed("cells.h5ad")
    ...     async for rows in client.stream(adata):
    ...         print(rows.cells, rows.vectors)
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.terms = Terms(url, api_key, model, timeout, retry, cells_per_request, in_flight)
        self._line = Awaiting(httpx.AsyncClient(**common(self.terms), verify=verify, transport=transport))
        self._shelf: Shelf = {}

    async def embed(
        self,
        cells: GivenCells,
        genes: Sequence[str] | None = None,
        how: ReadOptions = _AS_IT_IS,
        *,
        model: str | None = None,
        inplace: bool = False,
        progress: Progress | None = None,
    ) -> "AnnData":
        """Embed cells; see `Client.embed`."""
        return await self._gathered(cells, genes, how, Question("embed"), model, inplace, progress)

    async def annotate(
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
        """Tell the types of cells and embed them; see `Client.annotate`."""
        question = Question("annotate", top, unknown_below)
        return await self._gathered(cells, genes, how, question, model, inplace, progress)

    async def stream(
        self,
        cells: GivenCells,
        genes: Sequence[str] | None = None,
        how: ReadOptions = _AS_IT_IS,
        *,
        task: str = "embed",
        top: int = 3,
        unknown_below: float | None = None,
        model: str | None = None,
    ) -> AsyncIterator[Rows]:
        """Answers as they come, in the order of the cells; see `Client.stream`."""
        question = Question(task, top, unknown_below)
        async with self._opened(cells, genes, how) as (_, source):
            asking = await self._line.run(begun(self.terms, how, question, source, model, self._shelf))
            async with aclosing(self._line.in_order(asking.requests(), self.terms.in_flight)) as parts:
                async for part in parts:
                    yield asking.rows(part)

    async def call(
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
        """Have another task done; see `Client.call`."""
        if cells is None or is_as_served(cells):
            told = {} if cells is None else {"cells": cells}
            return await self._line.run(models.called(self.terms, task, model, {**told, **options}))
        async with self._opened(cells, columns, how) as (_, source):
            asking = await self._line.run(begun(self.terms, how, Question("embed"), source, model, self._shelf))
            found = await in_thread(asking.told, obs)
        return await self._line.run(models.called(self.terms, task, asking.model.name, {**found, **options}))

    async def models(self) -> list[dict[str, Any]]:
        """What the server says of its models, the first that of requests that name none."""
        return await self._line.run(models.models(self.terms))

    async def model(self, name: str | None = None) -> ServedModel:
        """A model that answers. None: that of the client, else the server's first."""
        return await self._line.run(models.model(self.terms, name))

    async def submit(self, path: str | Path, what: JobOptions = _A_JOB) -> ServedJob:
        """Hand in a whole file as a job; see `Client.submit`."""
        return await self._line.run(jobs.submitted(self.terms, Path(path), what))

    async def job(self, job_id: str) -> ServedJob:
        """A job as it is now."""
        return await self._line.run(jobs.job(self.terms, job_id))

    async def jobs(self) -> list[ServedJob]:
        """The jobs of this client's key, or all where the server asks for no keys."""
        return await self._line.run(jobs.jobs(self.terms))

    async def wait(self, job_id: str, progress: Progress | None = None, timeout: float | None = None) -> ServedJob:
        """Wait until a job is done; see `Client.wait`."""
        return await self._line.run(jobs.waited(self.terms, job_id, progress, timeout))

    async def fetch(self, job: ServedJob, folder: str | Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write the results of a job into a folder; see `Client.fetch`."""
        return await self._line.run(jobs.fetched(self.terms, job, Path(folder), names))

    async def cancel(self, job_id: str) -> None:
        """Stop a job; one that is over goes away with its results."""
        await self._line.run(jobs.cancelled(self.terms, job_id))

    async def close(self) -> None:
        """Let go of all connections."""
        await self._line.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _gathered(
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
        async with self._opened(cells, genes, how) as (given, source):
            asking = await self._line.run(begun(self.terms, how, question, source, model, self._shelf))
            gathering = Gathering.of(asking, given, inplace, progress)
            async with aclosing(self._line.in_order(asking.requests(), self.terms.in_flight)) as parts:
                async for part in parts:
                    gathering.take(part)
            return await in_thread(gathering.attached)

    @asynccontextmanager
    async def _opened(
        self, cells: GivenCells, genes: Sequence[str] | None, how: ReadOptions
    ) -> AsyncIterator[tuple["AnnData | CellPaths", CellSource]]:
        """The cells, open; a thread opens them, since that looks at many of them."""
        stack = ExitStack()
        try:
            yield await in_thread(stack.enter_context, opened(cells, genes, how))
        finally:
            stack.close()
