"""One supervisor after the other: what the last one left, and how this one becomes the next."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path

from wsd.supervisor.errors import CommandError
from wsd.supervisor.processes.orphans import end_orphans
from wsd.supervisor.processes.records import is_alive
from wsd.supervisor.processes.service import Command, Service
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.state_dir import SavedState, StateDir

LOCK_FD_ENV = "WSD_LOCK_FD"

SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
"""Those that a supervisor handles."""


def inherited_lock(environ: MutableMapping[str, str]) -> int:
    """The descriptor of the lock, if another supervisor became us; else -1. Nobody after us shall find it."""
    text = environ.pop(LOCK_FD_ENV, "")
    return int(text) if text.isdecimal() else -1


def take_stock(state_dir: StateDir) -> SavedState:
    """What still runs of a supervisor that died or handed over. What dead processes left of themselves is ended."""
    saved = state_dir.read_state()
    alive = tuple(record for record in saved.processes if is_alive(record, state_dir.root))
    for record in saved.processes:
        if record not in alive:
            signum = NginxService.orphan_signal if record.name == NginxService.name else signal.SIGKILL
            end_orphans(record, signum, state_dir.root)
    return replace(saved, processes=alive) if alive else SavedState()


class LeftoverService(Service):
    """A program of the supervisor before us that is not wanted any more, and only has to end."""

    def __init__(self, name: str, patience: float) -> None:
        """`patience`: seconds that a worker may drain."""
        self.name = name
        self.patience = patience
        if name == NginxService.name:
            self.patience = NginxService.patience
            self.signals = NginxService.signals
            self.orphan_signal = NginxService.orphan_signal

    def command(self, incarnation: int) -> Command:
        raise OSError(f"{self.name} is not wanted any more")

    async def is_ready(self, incarnation: int) -> bool:
        return True


async def check_next(here: Path) -> None:
    """Whether the code that is installed now would start as we were, in the directory `here`. Raises CommandError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *_next_command(),
            "--check",
            cwd=here,
            env={**os.environ, "PWD": str(here)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as exc:
        raise CommandError(f"the new code cannot be run, the old one goes on: {exc.filename}: {exc.strerror}") from None
    output, _ = await process.communicate()
    if process.returncode != 0:
        lines = output.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise CommandError(f"the new code would not start, the old one goes on: {lines[-1]}")


def become_the_next(state_dir: StateDir, here: Path) -> None:
    """Go on as the code that is installed now: the same process, with the same children and the same lock.

    `here`: the directory to go on in, looked up anew. Signals wait until the new code listens to them.
    Raises CommandError.
    """
    environ = {**os.environ, "PWD": str(here), LOCK_FD_ENV: str(state_dir.keep_lock_open())}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        os.chdir(here)
        os.execve(sys.executable, _next_command(), environ)  # noqa: S606
    except OSError as exc:
        raise CommandError(
            f"cannot go on as {sys.executable} in {here}: {exc.strerror}; what serves goes on until `wsd start`"
        ) from None


def _next_command() -> list[str]:
    return [sys.executable, "-P", "-m", "wsd.supervisor", *sys.argv[1:]]
