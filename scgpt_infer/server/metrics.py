"""What a server counts, for Prometheus: calls like `stage` and `request` in, the text of ``/metrics`` out.

Every process of a server counts for itself, into files of the folder PROMETHEUS_MULTIPROC_DIR, which the supervisor
sets before anything is counted; any of them tells the sum. Without that folder a process tells its own counts.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = [
    "FOLDER",
    "STAGES",
    "batch",
    "ended",
    "exposition",
    "in_flight",
    "jobs",
    "queued",
    "refused",
    "request",
    "restarted",
    "stage",
]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder that the processes of one server share."""

STAGES = ("read", "tokenise", "queue", "infer", "write")
"""Of an answer, in this order; they have these names in headers, spans and benchmarks too."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CELLS = tuple(2.0**i for i in range(13))
_TOKENS = tuple(2.0**i for i in range(6, 20))


@dataclass(frozen=True, slots=True)
class _Metrics:
    """All of them, and where they are registered."""

    registry: "CollectorRegistry"
    stage: "Histogram"
    tokens: "Counter"
    pads: "Counter"
    batch_cells: "Histogram"
    batch_tokens: "Histogram"
    last_batch: "Gauge"
    queued_tokens: "Gauge"
    queued_cells: "Gauge"
    requests: "Counter"
    request: "Histogram"
    in_flight: "Gauge"
    refused: "Counter"
    restarts: "Counter"
    jobs: "Gauge"


@cache
def _metrics() -> _Metrics:
    """Made when the first is counted: whether they are files is decided where prometheus_client is imported."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    here = CollectorRegistry()
    of_model = ("model",)
    return _Metrics(
        here,
        Histogram("scgpt_infer_stage_seconds", "Of a stage.", ("model", "stage"), buckets=_SECONDS, registry=here),
        Counter("scgpt_infer_tokens", "Tokens answered, without padding.", of_model, registry=here),
        Counter("scgpt_infer_pad_tokens", "Tokens of padding beside them.", of_model, registry=here),
        Histogram("scgpt_infer_batch_cells", "Cells of a batch.", of_model, buckets=_CELLS, registry=here),
        Histogram("scgpt_infer_batch_tokens", "Tokens of a batch, padded.", of_model, buckets=_TOKENS, registry=here),
        Gauge("scgpt_infer_last_batch_timestamp_seconds", "When.", of_model, multiprocess_mode="max", registry=here),
        Gauge("scgpt_infer_queued_tokens", "That wait.", of_model, multiprocess_mode="livesum", registry=here),
        Gauge("scgpt_infer_queued_cells", "That wait.", of_model, multiprocess_mode="livesum", registry=here),
        Counter("scgpt_infer_requests", "Requests answered.", ("route", "method", "status"), registry=here),
        Histogram("scgpt_infer_request_seconds", "Head to end.", ("route",), buckets=_SECONDS, registry=here),
        Gauge("scgpt_infer_requests_in_flight", "Worked on.", multiprocess_mode="livesum", registry=here),
        Counter("scgpt_infer_refused", "Requests refused, by code.", ("model", "code"), registry=here),
        Counter("scgpt_infer_restarts", "Processes that died and began anew.", ("process",), registry=here),
        Gauge("scgpt_infer_jobs", "Jobs by state.", ("state",), multiprocess_mode="mostrecent", registry=here),
    )


def stage(model: str, stage: str, seconds: float) -> None:
    """Count a stage of an answer.

    Parameters
    ----------
    model
        Name that requests call it by.
    stage
        One of `STAGES`.
    seconds
        What it took.
    """
    _metrics().stage.labels(model, stage).observe(seconds)


def batch(model: str, cells: int, tokens: int, pads: int) -> None:
    """Count a batch that a model has answered.

    Parameters
    ----------
    model
        Name that requests call it by.
    cells
        In the batch.
    tokens
        Of these cells, without padding.
    pads
        Tokens of padding beside them.
    """
    _metrics().tokens.labels(model).inc(tokens)
    _metrics().pads.labels(model).inc(pads)
    _metrics().batch_cells.labels(model).observe(cells)
    _metrics().batch_tokens.labels(model).observe(tokens + pads)
    _metrics().last_batch.labels(model).set(time.time())


def queued(model: str, tokens: int, cells: int) -> None:
    """Say what waits for a model now."""
    _metrics().queued_tokens.labels(model).set(tokens)
    _metrics().queued_cells.labels(model).set(cells)


def request(route: str, method: str, status: int, seconds: float) -> None:
    """Count a request that was answered.

    Parameters
    ----------
    route
        Pattern of its path, such as ``/v1/models/{name}``: a path that nobody serves must not become a label.
    method, status
        Of HTTP.
    seconds
        From its head to the end of its answer.
    """
    _metrics().requests.labels(route, method, str(status)).inc()
    _metrics().request.labels(route).observe(seconds)


def in_flight(change: int) -> None:
    """Count a request that came (1) or that has ended (-1)."""
    _metrics().in_flight.inc(change)


def refused(model: str, code: str) -> None:
    """Count a request that was refused.

    Parameters
    ----------
    model
        Whom it was for; empty where that was not known yet.
    code
        Of the `scgpt_infer.server.refusals.Refusal`.
    """
    _metrics().refused.labels(model, code).inc()


def restarted(process: str) -> None:
    """Count a process that was started again; ``process`` is ``frontend`` or ``seat``."""
    _metrics().restarts.labels(process).inc()


def jobs(state: str, count: int) -> None:
    """Say how many jobs are in a state now."""
    _metrics().jobs.labels(state).set(count)


def ended(pid: int) -> None:
    """Take a process that has ended out of what is the case now; what it has counted stays, in one file of its kind.

    Notes
    -----
    prometheus_client itself keeps the files of every process that ever ran, so that each scrape reads more of them.
    """
    if FOLDER not in os.environ:
        return
    with _files(fcntl.LOCK_EX) as folder:
        for path in folder.glob(f"*_{pid}.db"):
            kind = path.name.removesuffix(f"_{pid}.db")
            if not kind.startswith("gauge_live"):
                _fold(path, folder / f"{kind}_ended.db", kind)
            path.unlink()


def exposition() -> tuple[bytes, str]:
    """The text of ``/metrics`` over all processes of this server, and its content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    if FOLDER not in os.environ:
        return generate_latest(_metrics().registry), CONTENT_TYPE_LATEST
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    with _files(fcntl.LOCK_SH):
        return generate_latest(registry), CONTENT_TYPE_LATEST


@contextmanager
def _files(lock: int) -> Iterator[Path]:
    """The folder, in which nobody moves counts from file to file while somebody reads them."""
    folder = Path(os.environ[FOLDER])
    with (folder / "lock").open("a") as held:
        fcntl.flock(held, lock)  # let go when the file is closed
        yield folder


def _fold(path: Path, whole: Path, kind: str) -> None:
    """Count what a file says into another: bare counts, as processes write them (buckets are not summed up there)."""
    from prometheus_client.mmap_dict import MmapedDict

    sums = MmapedDict(str(whole))  # type: ignore[no-untyped-call]
    try:
        for key, value, when, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            before, last = sums.read_value(key)  # type: ignore[no-untyped-call]
            if kind == "gauge_max":
                value = max(value, before)
            elif kind == "gauge_mostrecent":
                value, when = max((when, value), (last, before))[::-1]
            else:
                value += before
            sums.write_value(key, value, when)  # type: ignore[no-untyped-call]
    finally:
        sums.close()  # type: ignore[no-untyped-call]
