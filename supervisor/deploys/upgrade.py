"""Replace a supervisor with the installed version of wsd, while the processes of its cluster keep running."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path

from wsd.supervisor.errors import CommandError
from wsd.supervisor.state_dir.directory import StateDir

LOCK_FD_ENV = "WSD_LOCK_FD"
"""The environment variable with the descriptor of the lock, for the program that this process executes next."""

SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
"""The signals that a supervisor handles."""


def inherited_lock(environ: MutableMapping[str, str]) -> int:
    """Return the descriptor of the lock if this process executes us in the place of the previous supervisor, else -1.

    The variable is removed from `environ`, so that processes of the cluster do not inherit it.
    """
    text = environ.pop(LOCK_FD_ENV, "")
    return int(text) if text.isdecimal() else -1


async def check_next(here: Path) -> None:
    """Check that the installed version of wsd would start with our arguments, in the directory `here`.

    Raises CommandError when it would not.
    """
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
        raise CommandError(
            f"the installed version cannot be run, this one keeps running: {exc.filename}: {exc.strerror}"
        ) from None
    output, _ = await process.communicate()
    if process.returncode != 0:
        lines = output.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise CommandError(f"the installed version would not start, this one keeps running: {lines[-1]}")


def execute_installed_version(state_dir: StateDir, here: Path) -> None:
    """Execute the installed version of wsd in this process, which keeps its pid, its children and its lock.

    `here` is the directory to run in. It is looked up anew, because a link to a release may lead elsewhere by now.
    Signals are blocked until the new program handles them.

    Raises CommandError when it cannot be executed.
    """
    environ = {**os.environ, "PWD": str(here), LOCK_FD_ENV: str(state_dir.lock.keep_open())}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        os.chdir(here)
        os.execve(sys.executable, _next_command(), environ)  # noqa: S606
    except OSError as exc:
        raise CommandError(
            f"cannot execute {sys.executable} in {here}: {exc.strerror}; the processes of the cluster keep running, "
            "and `wsd start` takes them over"
        ) from None


def _next_command() -> list[str]:
    return [sys.executable, "-P", "-m", "wsd.supervisor", *sys.argv[1:]]
