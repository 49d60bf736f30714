"""A seat as a process of its own: `serve`, told over a link by the supervisor what to open and when to end.

Words to it: ``open {spec}``, ``end {seconds}``. Its words: ``ready {digest}``, ``failed {message, input}``.
"""

import importlib
import json
import logging
import os
import signal
import socket
import time
from contextlib import AbstractContextManager
from typing import cast

from scgpt_infer.server import logs
from scgpt_infer.server.seat.answering import Seat
from scgpt_infer.server.seat.calling import Calling
from scgpt_infer.server.seat.intact import Intact
from scgpt_infer.server.seat.links import Links
from scgpt_infer.server.seat.opening import Opened
from scgpt_infer.server.seat.spec import Spec
from scgpt_infer.server.seat.work import Limits, Work
from scgpt_infer.server.wire import Message, receive, send
from scgpt_runtime.errors import InputError
from scgpt_runtime.providers import ON_GPU

__all__ = ["serve"]

LOST = 4
"""Exit code of a seat whose device stopped working, or whose model was written into."""

_LOOK_SECONDS = 0.02

_log = logging.getLogger(__name__)


def serve(handle: int) -> None:
    """Be a seat until the supervisor says ``end``, or is gone.

    Parameters
    ----------
    handle
        File descriptor of the link to the supervisor.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the supervisor says when to end
    with socket.socket(fileno=handle) as link:
        first = receive(link)
        if first is None:
            return
        spec = Spec.heard(first.fields["spec"])
        logs.configure(first.fields["log_format"], first.fields["log_level"], f"seat {spec.name}")
        try:
            _sit(link, spec)
        except Exception as error:
            _log.error("The model %s is not served: %s", spec.name, error)
            send(link, Message("failed", {"message": str(error), "input": isinstance(error, InputError)}))
            if not isinstance(error, InputError):
                raise


def _sit(link: socket.socket, spec: Spec) -> None:
    with _opener(spec) as opened, Intact(opened.files) as intact, _calling(opened, intact) as calling:
        opened.bundle.check_in_place()  # so that what was opened, proven and watched is of one bundle
        if opened.engine is None:
            _listen(link, spec, Seat(spec, opened, None, calling), None, calling)
            return
        choice = opened.engine.choice
        limits = Limits(spec.wait_seconds, spec.queue_seconds, spec.queue_tokens)
        ahead = 1 if choice.provider in ON_GPU else 0
        with Work(spec.name, opened.engine, choice.instances, ahead, limits, intact.check, _lost) as work:
            if opened.seconds:
                work.rate.add(opened.tokens, opened.seconds * choice.instances)
            _listen(link, spec, Seat(spec, opened, work, calling), work, calling)


def _listen(link: socket.socket, spec: Spec, seat: Seat, work: Work | None, calling: Calling) -> None:
    with Links(spec.socket, seat) as links:
        send(link, Message("ready", {"digest": seat.digest}))
        _log.info("The model %s is ready.", spec.name)
        last = receive(link)
        seat.end()
        until = time.monotonic() + (0.0 if last is None else last.fields["seconds"])
        while time.monotonic() < until and not _idle(links, work, calling):
            time.sleep(_LOOK_SECONDS)
        if last is None:  # the supervisor is gone, and everything with it
            os._exit(1)


def _idle(links: Links, work: Work | None, calling: Calling) -> bool:
    """Whether all that was asked is answered, and the answers are sent."""
    # What is asked goes from a link to the model and back to the link, so links are looked at before and after.
    return links.idle and (work is None or work.idle) and calling.idle and links.idle


def _calling(opened: Opened, intact: Intact) -> Calling:
    from scgpt_infer.server.calls import answer

    def do(task: str, body: bytes) -> bytes:
        document = answer(opened.bundle, task, json.loads(body), opened.options)
        intact.check()
        return document

    return Calling(do, _lost)


def _lost(error: Exception) -> None:
    """End now: what is not answered is asked again, of a process that opens the model anew or says why it cannot."""
    _log.error("This process ends. %s", error)
    logging.shutdown()
    os._exit(LOST)


def _opener(spec: Spec) -> AbstractContextManager[Opened]:
    module, _, function = spec.opener.partition(":")
    return cast("AbstractContextManager[Opened]", getattr(importlib.import_module(module), function)(spec))
