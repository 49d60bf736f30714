"""The front ends of a server, as the supervisor holds them: `Fronts` starts, watches and ends them.

In: a socket that listens. Out: what front ends ask for. It knows neither HTTP nor models.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from scgpt_infer.server import metrics
from scgpt_infer.server.children import Child
from scgpt_infer.server.settings import Settings
from scgpt_infer.server.wire import Message

__all__ = ["Fronts"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0

_log = logging.getLogger(__name__)


class Fronts:
    """Front ends, each started again when it dies.

    Parameters
    ----------
    settings
        Of the server.
    listener
        File descriptor of the socket that listens.
    environment
        Variables of the processes.
    table
        Gives the message with all models.
    heard
        Told of what a front end asks for.
    failed
        Told why none can be had, where none has listened yet; later ones are tried again.
    """

    def __init__(
        self,
        settings: Settings,
        listener: int,
        environment: Mapping[str, str],
        table: Callable[[], Message],
        heard: Callable[[Child, Message], None],
        failed: Callable[[str], None],
    ) -> None:
        self._settings, self._listener, self._environment = settings, listener, environment
        self._table, self._heard, self._failed = table, heard, failed
        self._running: dict[int, Child] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False
        self._ended = False
        self._listened = False
        self._cut_off = False

    def start(self) -> None:
        """Start them."""
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(self._settings.frontends)]

    def tell(self, message: Message) -> None:
        """Send a message to all."""
        for front in self._running.values():
            front.tell(message)

    def drain(self) -> None:
        """Have them say that they are not ready, those too that start from now on."""
        self._draining = True
        self.tell(Message("drain"))

    def end(self) -> None:
        """Have them end when they have answered what they have accepted; none is started any more."""
        self._ended = True
        self.tell(Message("end"))

    def kill(self) -> None:
        """End them now."""
        self._ended = True
        for front in self._running.values():
            if front.process.returncode is None:
                front.kill()
                self._cut_off = True

    async def wait(self) -> bool:
        """Wait until all have ended; whether none had to be killed."""
        await asyncio.gather(*(front.process.wait() for front in self._running.values()))
        return not self._cut_off

    async def close(self) -> None:
        """End them now, and wait for that."""
        self.kill()
        await self.wait()
        for task in self._tasks:
            task.cancel()  # one may be starting, or wait to start
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, number: int) -> None:
        pause = _FIRST_PAUSE
        while not self._ended:
            try:
                told, listened = await self._run(number)
            except OSError as error:
                told, listened = f"Front end {number} could not be started: {error.strerror}.", False
            if self._ended:
                return
            if not self._listened:
                self._failed(told)
                return
            _log.error("%s Another one takes its place.", told)
            metrics.restarted("frontend")
            pause = _FIRST_PAUSE if listened else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _run(self, number: int) -> tuple[str, bool]:
        """Start one, hear it until it ends; what came of it, and whether it has listened."""
        front = await Child.start("scgpt_infer.server.front.process", [self._listener], self._environment)
        self._running[number] = front
        if self._ended:
            front.kill()
        front.tell(Message("begin", {"settings": self._settings.told(), "number": number}))
        front.tell(self._table())
        if self._draining:
            front.tell(Message("drain"))
        told, listened = None, False
        while (message := await front.hear()) is not None:
            if message.kind == "failed":
                told = message.fields["message"]
            elif message.kind == "listening":
                listened = self._listened = True
            else:
                self._heard(front, message)
        fate = await front.fate()
        metrics.ended(front.process.pid)
        return told or f"Front end {number} ended with {fate}.", listened
