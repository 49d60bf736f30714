"""The process of one job: a file of cells in, results beside it, words on how it goes out.

It opens the file, which strangers made, in a process of its own with limits; the model is in another one. It does what
the command line does, by the same `Job` and ledger. It knows neither HTTP nor the other jobs.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from scgpt_infer import interrupts
from scgpt_infer.interrupts import finishing
from scgpt_infer.job import Job
from scgpt_infer.ledger.folder import parts_folder
from scgpt_infer.ledger.lock import clear
from scgpt_infer.ledger.plan import PLAN, Plan
from scgpt_infer.model import Model, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import destination, disk
from scgpt_infer.run import Progress
from scgpt_infer.server.confining import confine
from scgpt_infer.server.jobs.errand import Advanced, Done, Errand, Failed, Lost, Said, Stopped, Word
from scgpt_infer.server.jobs.remote import RemoteEngine, TryAgain, connected
from scgpt_infer.sizes import size
from scgpt_infer.work import WorkOptions
from scgpt_infer.writers.sink import beside, sync
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, OutputError, ScgptInferError
from scgpt_runtime.manifest import vector_id

__all__ = ["do", "serve"]

_TOLD = ".summary.json"
_ADVANCE_S = 0.5

_log = logging.getLogger(__name__)

Tell = Callable[[Word], None]


class _NotServed(TryAgain):
    """The bundle on the disk is not the one that the model's process has open, until it is loaded anew."""


def serve() -> None:
    """Be the process of a job: its errand comes by standard input, its words go to standard output."""
    tell = _told()
    logging.basicConfig(handlers=[_Lines(tell)], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    interrupts.catch()
    try:
        errand = _errand(sys.stdin.buffer)
        confine(errand.memory_bytes, errand.room_bytes)
        with finishing():
            tell(Done(do(errand, tell)))
    except TryAgain as error:
        tell(Lost(str(error), isinstance(error, _NotServed)))
    except interrupts.Terminated:
        tell(Stopped())
    except (ScgptInferError, OSError, MemoryError) as error:
        tell(Failed(f"{error}" or "The memory that a job may take ran out."))
    except Exception:
        _log.exception("the work failed in a way that it should not")
        tell(Failed("Something failed that should not. The server's log has it under the id of this job."))


def do(errand: Errand, tell: Tell) -> dict[str, Any]:
    """Do the work of a job; what an earlier run of it has kept is not done again. Gives its summary.

    Parameters
    ----------
    errand
        The work.
    tell
        Told how it goes.

    Raises
    ------
    TryAgain
        The model's process went away.
    ScgptInferError
        It cannot be done.
    """
    results = Path(errand.results)
    told = results / _TOLD
    results.mkdir(exist_ok=True)
    if not told.exists():
        with connected(Path(errand.socket)) as engine:
            summary = _answered(errand, engine, tell)
        with beside(told) as temporary:
            temporary.write_text(summary, encoding="utf-8")
            sync(temporary, told)
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    if errand.asked.report:
        _report(errand, tell, found)
    return found


def _answered(errand: Errand, engine: RemoteEngine, tell: Tell) -> str:
    """Make the result; its summary as JSON."""
    asked, about = errand.asked, engine.about
    reference = None if about.reference is None else str(Path(errand.home, about.reference))
    how, options = asked.how(reference), asked.options(about.options)
    upload = Path(errand.upload)
    output = destination(upload, Path(errand.results) / asked.result, options)
    advance = _advance(tell)
    with cells_of(upload, options) as source, _model(Path(errand.home, about.path), options) as known:
        _check_alone(output)
        _check_same(known.bundle, engine, options.genes)
        if asked.task == "embed":
            job = known.job(source, engine=engine)
            return job.into_file(output, advance, work=_work(job, output, errand.room_bytes)).to_json()
        with known.labels(how) as labels:
            job = known.labelling(source, labels, lambda: engine)
            return labels.into_file(job, output, advance, _work(job, output, errand.room_bytes)).to_json()


def _work(job: Job, output: Path, room: int) -> WorkOptions:
    """How the job is done: on from what is kept, if it is of the same work; another server may run the model otherwise.

    Raises
    ------
    OutputError
        There is no room for the result.
    """
    target, folder = job.checked_target(output), parts_folder(output)
    needed = disk(target).needed
    if needed > room:
        raise OutputError(
            f"The result needs about {size(needed)}, and jobs may take {size(room)} more. Remove jobs that are "
            "done, or ask for less (obs_only=true, output=npy)."
        )
    same = not (folder / PLAN).exists() or not Plan.read(folder).differences(job.plan(target))
    return WorkOptions(resume=same)


def _check_alone(output: Path) -> None:
    """Make sure that the process of a server that lost its lease has ended too.

    Raises
    ------
    TryAgain
        It may be at work.
    """
    try:
        clear(parts_folder(output) / "lock")
    except OutputError as error:
        raise TryAgain(f"The process of another server is still at this job: {error}") from error


def _model(path: Path, options: EmbedOptions) -> Model:
    """The model on the disk, whose process has it open.

    Raises
    ------
    TryAgain
        It is not there.
    """
    try:
        return Model.open(path, options, when_needed=True)
    except BundleError as error:
        raise _NotServed(f"The bundle that the model's process has open is not on the disk: {error}") from error


def _check_same(bundle: Bundle, engine: RemoteEngine, genes: str) -> None:
    """Make sure that the bundle on the disk is the one that the model's process has open."""
    manifest = bundle.manifest
    found = vector_id(
        manifest.weights,
        bundle.sha256("vocab.json"),
        manifest.pooling,
        engine.settings,
        genes,
        manifest.arithmetic(engine.choice.arithmetic),
    )
    if found != engine.vector_id:
        raise _NotServed(
            "The bundle on the disk is another one than the model's process has open: it is to be reloaded."
        )


def _report(errand: Errand, tell: Tell, summary: dict[str, Any]) -> None:
    """Make the page; cells of which none can be made are no reason to fail a job whose result is there."""
    from scgpt_infer.report.finding import ReportOptions, find
    from scgpt_infer.report.page import page
    from scgpt_infer.report.reading import EmbeddedFile

    tell(Said("the report is made"))
    results = Path(errand.results)
    final = results / errand.asked.page
    try:
        with EmbeddedFile(results / errand.asked.result) as file:
            text = page(find(file, ReportOptions(), lambda line: tell(Said(line))))
    except ScgptInferError as error:
        summary["report_error"] = str(error)
        return
    with beside(final) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
        sync(temporary, final)


def _told() -> Tell:
    """Tells words on what was standard output; what libraries print there is no word."""
    out, alone = os.dup(1), threading.Lock()
    os.dup2(2, 1)

    def tell(word: Word) -> None:
        left = msgspec.json.encode(word) + b"\n"
        with alone:
            while left:
                left = left[os.write(out, left) :]

    return tell


class _Lines(logging.Handler):
    """Tells lines of the log as words, so that the server logs them in its own form."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a line."""
        self._tell(Said(self.format(record)))


def _advance(tell: Tell) -> Progress:
    """Tells of cells that are done, now and then."""
    last = -_ADVANCE_S

    def advance(done: int, cells: int) -> None:
        nonlocal last
        if done == cells or time.monotonic() - last >= _ADVANCE_S:
            tell(Advanced(done, cells))
            last = time.monotonic()

    return advance


def _errand(stream: BinaryIO) -> Errand:
    return msgspec.json.decode(stream.read(), type=Errand)
