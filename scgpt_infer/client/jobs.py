"""Whole files as jobs of a server: `submitted`, `waited` for, `fetched`.

In: paths and what shall become of them. Out: steps that end with jobs or with paths. It opens no connection.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from urllib.parse import quote

from scgpt_infer.client.errors import DeadlineError, JobFailedError, ProtocolError
from scgpt_infer.client.messages import Pause, Request, Steps
from scgpt_infer.client.models import document
from scgpt_infer.client.retrying import Patience, answered
from scgpt_infer.client.served_job import JobOptions, ServedJob
from scgpt_infer.client.terms import Terms
from scgpt_infer.run import Progress
from scgpt_infer.writers.sink import beside, output_errors, sync
from scgpt_runtime.errors import CellsError, OptionError

__all__ = ["cancelled", "fetched", "job", "jobs", "submitted", "waited"]

_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between looks at a job, then always the last."""

_IDLE_S = 300.0
"""A transfer that stands still for so long is dead."""


def submitted(terms: Terms, path: Path, what: JobOptions) -> Steps[ServedJob]:
    """Hand a file in; its bytes are streamed. It is not sent again where the server may have taken it.

    Raises
    ------
    CellsError
        There is no such file.
    """
    if not path.is_file():
        raise CellsError(f"There is no file {path}. A job takes one file of cells; check the path.")
    headers = {"Content-Type": "application/octet-stream"}
    request = Request("POST", "/v1/jobs", what.query(terms, path), headers, path, repeatable=False, idle=_IDLE_S)
    return ServedJob.of(document((yield from answered(request, _unhurried(terms)))))


def job(terms: Terms, job_id: str) -> Steps[ServedJob]:
    """A job as it is now."""
    return ServedJob.of(document((yield from answered(Request("GET", _path(job_id)), terms.patience))))


def jobs(terms: Terms) -> Steps[list[ServedJob]]:
    """The jobs of this client's key, or all where the server asks for no keys."""
    found = document((yield from answered(Request("GET", "/v1/jobs"), terms.patience)))
    return [ServedJob.of(told) for told in found.get("jobs", [])]


def cancelled(terms: Terms, job_id: str) -> Steps[None]:
    """Stop a job; one that is over goes away with its results."""
    yield from answered(Request("DELETE", _path(job_id)), terms.patience)


def waited(
    terms: Terms,
    job_id: str,
    progress: Progress | None = None,
    timeout: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[ServedJob]:
    """Look at a job until it is over.

    Raises
    ------
    JobFailedError
        It failed or was cancelled.
    DeadlineError
        It is not over after so many seconds; it goes on.
    """
    ends = None if timeout is None else clock() + timeout
    for pause in _pauses():
        found = yield from job(terms, job_id)
        if progress is not None and found.cells is not None:
            progress(found.cells_done, found.cells)
        if found.state == "succeeded":
            return found
        if found.is_over:
            why = found.error or "no reason was told"
            raise JobFailedError(f"Job {job_id} ({found.name}) ended as {found.state}: {why}")
        if ends is not None and clock() + pause > ends:
            raise DeadlineError(
                f"Job {job_id} ({found.name}) is {found.state} after {timeout:g} s and goes on: wait again, or cancel."
            )
        yield Pause(pause)
    raise AssertionError  # pragma: no cover, the pauses have no end


def fetched(terms: Terms, done: ServedJob, folder: Path, names: Sequence[str] | None = None) -> Steps[list[Path]]:
    """Write the results of a job into a folder, each whole or not at all.

    Raises
    ------
    OutputError
        One cannot be written.
    ProtocolError
        The server names a file that would lie elsewhere, or sends another size than it told.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for result in done.results:
        if names is not None and result.name not in names:
            continue
        if result.name in ("", ".", "..") or Path(result.name).name != result.name or "\\" in result.name:
            raise ProtocolError(f"The server names a result {result.name!r}, which is no name of a file in a folder.")
        final = folder / result.name
        with beside(final) as temporary:
            path = f"{_path(done.id)}/results/{quote(result.name, safe='')}"
            yield from answered(Request("GET", path, into=temporary, idle=_IDLE_S), _unhurried(terms))
            size = temporary.stat().st_size
            if size != result.bytes:
                raise ProtocolError(
                    f"{result.name} came with {size:,} bytes; the job has {result.bytes:,}. Fetch it again."
                )
            with output_errors(final):
                sync(temporary, final)
        written.append(final)
    return written


def _path(job_id: str) -> str:
    if not isinstance(job_id, str) or not job_id:
        raise OptionError(f"job_id is {str(job_id)[:60]!r}; expected the id of a job, such as job.id.")
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _unhurried(terms: Terms) -> Patience:
    """A transfer takes as long as it takes."""
    return Patience(None, terms.retry)


def _pauses() -> Iterator[float]:
    return chain(_PAUSES, repeat(_PAUSES[-1]))
