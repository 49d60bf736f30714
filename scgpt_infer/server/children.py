"""Processes of a server, as the supervisor has them: `Child`, a fresh interpreter and a link to it.

In: a role and file descriptors that the process inherits. Out: messages both ways, and how it ended. It does not know
what roles do.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from scgpt_infer.server.wire import Message, packed, read
from scgpt_infer.tied import program

__all__ = ["LIMIT", "Child"]

LIMIT = 1 << 22
"""Bytes that a link holds before the other side has to wait: a few requests of many cells."""


@dataclass(slots=True)
class Child:
    """A process that was started.

    Attributes
    ----------
    process
        The process.
    reader, writer
        The link to it.
    """

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def start(cls, module: str, handles: Sequence[int], environment: Mapping[str, str]) -> Self:
        """Start a process.

        Parameters
        ----------
        module
            Has ``serve(link, *handles)``, which is what the process does.
        handles
            File descriptors that it inherits.
        environment
            Variables of its own, beside ours.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            passed = [theirs.fileno(), *handles]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                program(f"{module}:serve", *passed),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # nothing but what a command prints goes to standard output
                pass_fds=passed,
                env={**os.environ, **environment},
                start_new_session=True,  # a terminal's signals are for the supervisor
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=LIMIT)
        return cls(process, reader, writer)

    def tell(self, message: Message) -> None:
        """Send it a message; one that is gone hears nothing."""
        if not self.writer.is_closing():
            self.writer.writelines(packed(message))

    async def hear(self) -> Message | None:
        """Its next message; None when there will be none."""
        try:
            return await read(self.reader)
        except OSError:
            return None

    async def fate(self) -> str:
        """How it ended, for people; waits until it has."""
        code = await self.process.wait()
        self.writer.close()
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def kill(self) -> None:
        """End it now."""
        if self.process.returncode is None:
            self.process.kill()
