"""`wsd status --watch`: reads keys, asks for the status every second and shows what `watch_screen` draws."""

import os
import queue
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType

import msgspec
from rich.live import Live

from wsd.supervisor.cli.watch_screen import OperationRequest, Screen, first_screen, press, render, updated
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.deploys.operations import Progress
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.logs.events import EventFollower, read_events
from wsd.supervisor.logs.reading import choose
from wsd.supervisor.machine.terminal import console
from wsd.supervisor.state_dir.directory import StateDir

TICK_SECONDS = 1.0
ANSWER_SECONDS = 2.0

EVENTS = 200
"""How many of the latest events are kept."""

SEQUENCES = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down"}
"""The names of keys that send more than one character (terminfo kcuu1, kcud1)."""


def watch(state_dir: StateDir) -> None:
    """Show the live view until `q` or Ctrl-C is pressed.

    Raises NotRunningError when no cluster is running at the start, ConfigError without a terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("--watch needs a terminal; programs can use `wsd status --json`")
    with suppress(KeyboardInterrupt):
        _Watch(state_dir).run()


class _Watch:
    def __init__(self, state_dir: StateDir) -> None:
        self._state_dir = state_dir
        self._client = ControlClient(state_dir, timeout=ANSWER_SECONDS)
        self._follower = EventFollower(state_dir.events)
        happened = list(read_events(state_dir.events, choose(), EVENTS, follow=False))
        self._screen = replace(first_screen(self._status()), events=happened)
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._woken, self._waker = os.pipe()

    def run(self) -> None:
        screen = console()
        with (
            _keys_at_once(sys.stdin.fileno()) as keyboard,
            Live(console=screen, screen=True, auto_refresh=False) as live,
        ):
            due = time.monotonic() + TICK_SECONDS
            while True:
                width, height = screen.size
                live.update(render(self._screen, width, height), refresh=True)
                ready, _, _ = select.select([keyboard, self._woken], [], [], max(0.0, due - time.monotonic()))
                if self._woken in ready:
                    os.read(self._woken, 1024)
                if keyboard in ready and not self._pressed(os.read(keyboard, 64)):
                    return
                while not self._notes.empty():
                    self._screen = replace(self._screen, note=self._notes.get())
                if time.monotonic() >= due:
                    due = time.monotonic() + TICK_SECONDS
                    self._screen = self._look()

    def _status(self) -> ClusterStatus:
        return msgspec.json.decode(self._client.call("GET", "/v1/status"), type=ClusterStatus)

    def _look(self) -> Screen:
        events = [*self._screen.events, *self._follower.new()][-EVENTS:]
        try:
            return replace(updated(self._screen, self._status()), events=events)
        except CommandError as exc:
            return replace(self._screen, away=str(exc), events=events)

    def _pressed(self, typed: bytes) -> bool:
        """Handle keys. Return False when the view should end: `q` was pressed, or the terminal is gone."""
        if not typed:
            return False
        for key in keys_of(typed):
            if key == "q" and self._screen.asking is None:
                return False
            self._screen, action = press(self._screen, key)
            if action is not None:
                threading.Thread(target=self._carry_out, args=(action,), daemon=True).start()
        return True

    def _carry_out(self, action: OperationRequest) -> None:
        """Ask the supervisor for an operation and show its progress. Runs in a thread, since it may take minutes."""
        try:
            client = ControlClient(self._state_dir, way="a key of wsd status --watch")
            for line in client.follow(action.target, dict(action.body)):
                progress = msgspec.json.decode(line, type=Progress)
                self._say(progress.text or progress.error or "done")
        except CommandError as exc:
            self._say(str(exc))

    def _say(self, text: str) -> None:
        self._notes.put(text)
        os.write(self._waker, b"!")


def keys_of(typed: bytes) -> Iterator[str]:
    """Split typed bytes into keys, named as `press` knows them."""
    while typed:
        sequence = next((known for known in SEQUENCES if typed.startswith(known)), None)
        if sequence is not None:
            yield SEQUENCES[sequence]
            typed = typed[len(sequence) :]
        else:
            yield typed[:1].decode(errors="replace")
            typed = typed[1:]


@contextmanager
def _keys_at_once(fd: int) -> Iterator[int]:
    """Read keys without waiting for Enter and without echo. The terminal is restored at the end, also after SIGTERM."""
    before = termios.tcgetattr(fd)
    was = signal.signal(signal.SIGTERM, _terminated)
    tty.setcbreak(fd)
    try:
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, was)


def _terminated(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)
