"""A whole file as a job: what shall become of it, `JobOptions`, and how it is, `ServedJob` with its `JobResult`s.

In: what a server tells. Out: plain data. It asks nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from scgpt_infer.client.errors import ProtocolError
from scgpt_infer.client.terms import Terms

__all__ = ["JobOptions", "JobResult", "ServedJob"]

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]

_FINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What shall become of a file.

    Attributes
    ----------
    task
        ``annotate`` or ``embed``.
    output
        Format of the result: ``h5ad``, ``json``, ``csv``, ``parquet``, and of vectors ``npy``.
    model
        Name of the model. None: that of the client, else the server's first.
    report
        Whether a page about the result is made too. None: where the output is ``h5ad``.
    name
        What the server calls the file; its suffix tells the format. None: its own name.
    options
        Further ones, as the server names them: ``top``, ``unknown_below``, ``with_vectors``, ``layer``, ``gene_col``,
        ``modality``, ``cells_in``, ``obs_only``.
    """

    task: str = "annotate"
    output: str = "h5ad"
    model: str | None = None
    report: bool | None = None
    name: str | None = None
    options: Mapping[str, str | int | float | bool] | None = None

    def query(self, terms: Terms, path: Path) -> dict[str, str]:
        """The same in a request."""
        model = self.model or terms.model
        told: dict[str, Any] = {"task": self.task, "output": self.output, "name": self.name or path.name}
        told |= {"report": self.report, "model": model, **(self.options or {})}
        told = {name: value for name, value in told.items() if value is not None}
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in told.items()}


@dataclass(frozen=True, slots=True)
class JobResult:
    """A file that a job made: its name, its size and its kind."""

    name: str
    bytes: int
    content_type: str


@dataclass(frozen=True, slots=True)
class ServedJob:
    """A job, as it is.

    Attributes
    ----------
    id
        By which the server knows it.
    state
        ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``.
    task, model, name
        What is done, by which model, with which file.
    created
        When it was handed in, as the server tells it.
    cells_done, cells
        How far it is; `cells` is None until the server knows.
    error
        Why it failed; None where it did not.
    results
        Files that can be fetched.
    summary
        What the run tells of itself, when it is done.
    """

    id: str
    state: State
    task: str
    model: str
    name: str
    created: str
    cells_done: int
    cells: int | None
    error: str | None
    results: tuple[JobResult, ...]
    summary: Mapping[str, Any] | None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Read what a server says.

        Raises
        ------
        ProtocolError
            Something of it is missing.
        """
        try:
            results = tuple(JobResult(one["name"], one["bytes"], one["content_type"]) for one in told["results"])
            names = ("id", "state", "task", "model", "name", "created", "cells_done", "cells", "error")
            return cls(**{name: told[name] for name in names}, results=results, summary=told["summary"])
        except (KeyError, TypeError) as error:
            raise ProtocolError(
                f"The server does not tell of its job what this client asks for ({error!r}). Use a client and a server "
                "of the same version."
            ) from error

    @property
    def is_over(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in _FINAL
