"""One process of `wsd dev`, and the messages to and from it."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

from wsd.worker.contract.dev_channel import CHANNEL_FD, Kind, Task, packed, receive, send_listener

KILL_SECONDS = 1.0
"""How long a process has to end after SIGTERM."""


class Instance:
    """A process that serves an application, or is to serve it. It runs in the terminal, for the sake of debuggers."""

    def __init__(self) -> None:
        """Start the process. It imports wsd, and then waits for its task. The process ends with this channel to it."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-P", "-m", "wsd.worker.dev"),
                env={**os.environ, CHANNEL_FD: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
            )
        self._writer: asyncio.StreamWriter | None = None

    @property
    def runs(self) -> bool:
        """True until the process has ended."""
        return self._process.poll() is None

    async def load(self, task: Task, listener: socket.socket) -> AsyncIterator[tuple[Kind, bytes]]:
        """Let the process import an application. Yield what it says, until it ends.

        `listener`: the socket that clients connect to.
        """
        with suppress(OSError):  # it has ended already
            send_listener(self._channel, listener)
        reader, self._writer = await asyncio.open_connection(sock=self._channel)
        self.tell(Kind.LOAD, task.encode())
        while (message := await receive(reader)) is not None:
            yield message
        self._writer.close()

    def tell(self, kind: Kind, body: bytes = b"") -> None:
        """Send a message, unless the process has ended. One that has not been told to load ends."""
        if self._writer is None:
            self._channel.close()
        elif not self._writer.is_closing():
            self._writer.write(packed(kind, body))

    async def ended(self) -> int:
        """Wait for the end of the process. Return its exit code, or the negative number of the signal that ended it."""
        return await asyncio.to_thread(self._process.wait)

    async def kill(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            async with asyncio.timeout(KILL_SECONDS):
                await self.ended()
        except TimeoutError:
            self._process.kill()

    def terminate(self) -> None:
        """Send SIGTERM, which ends a process that does not serve yet."""
        self._process.terminate()

    def kill_now(self) -> None:
        """Send SIGKILL."""
        self._process.kill()


def exit_text(code: int) -> str:
    """Say how a process ended."""
    return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
