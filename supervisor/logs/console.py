"""The output of `wsd start`, written by a thread, so that a reader that stops reading does not block the event loop."""

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TextIO

from wsd.supervisor.logs.json_lines import console_line, log_line
from wsd.supervisor.logs.prefixes import use_colour
from wsd.supervisor.machine.terminal import shown

MAX_WAITING_BYTES = 1024 * 1024
"""How much output waits for a reader that does not read, e.g. after Ctrl-S. Further lines are dropped and counted."""

FLUSH_SECONDS = 1.0
ROOM_SECONDS = 0.1


class Console:
    """A writer of lines, in their order. When the terminal goes away, lines are discarded, and wsd does not stop."""

    def __init__(
        self, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ, *, as_json: bool = False
    ) -> None:
        """`stream` None is standard output. With `as_json` every line is a JSON object, see `json_lines`."""
        stream = stream or sys.stdout
        self.as_json = as_json
        self.colour = not as_json and use_colour(stream, environ)
        self._fd = stream.fileno()
        self._encoding = stream.encoding
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        """True if the next line would be dropped."""
        return self._waiting_bytes >= MAX_WAITING_BYTES

    async def room(self) -> None:
        """Wait until there is room for another line."""
        while self.is_full:  # noqa: ASYNC110 - another thread makes room
            await asyncio.sleep(ROOM_SECONDS)

    def say(self, text: str) -> None:
        """Show a line of the supervisor itself."""
        if not self.as_json:
            self._put(shown(text))
        elif text.strip():
            self._put(console_line(text.strip(), time.time()))

    def show(self, process: str, text: str, prefix: str) -> None:
        """Show a line of a process's log. `prefix` is not escaped, so it must be wsd's own; it may hold colours."""
        self._put(log_line(process, text, time.time()) if self.as_json else f"{prefix}{shown(text)}")

    def flush(self, timeout: float = FLUSH_SECONDS) -> bool:
        """Wait until everything is written. Returns False if that takes longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting_bytes == 0, timeout)

    def _put(self, line: str) -> None:
        if self._thread is None:
            self._start()
        if self.is_full:
            self._dropped += 1
            return
        if self._dropped:
            text = f"{self._dropped} lines were not shown, because nobody read the output; `wsd logs` has them"
            self._dropped = 0
            self.say(text)
        data = f"{line}\n".encode(self._encoding, "backslashreplace")
        with self._changed:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._changed.notify_all()

    def _start(self) -> None:
        """Start the thread that writes. It is a daemon thread, so that a blocked write does not prevent our exit."""
        self._thread = threading.Thread(target=self._run_writer, name="console", daemon=True)
        # Signals are for the main thread. A thread inherits the mask, so all signals are blocked in the new one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run_writer(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = b"".join(self._waiting)
                self._waiting.clear()
            _write(self._fd, data)
            with self._changed:
                self._waiting_bytes -= len(data)
                self._changed.notify_all()


def _write(fd: int, data: bytes) -> None:
    """Write all data, however long that takes, or discard it if nobody can read it."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])  # another program on the same terminal has made it non-blocking
        except OSError:
            return
