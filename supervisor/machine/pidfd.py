"""Descriptors of processes (pidfd_open(2)): a signal reaches the process that was meant, or none. Linux only."""

import os
import select
import signal
import sys

from wsd.supervisor.machine.procfs import LINUX_ONLY


def pidfd_of(pid: int) -> int:
    """Return a descriptor of a process. It keeps referring to that process even when the pid is reused.

    Raises OSError, such as ProcessLookupError when the process has ended.
    """
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    else:  # noqa: RET505 - it tells mypy that this is for Linux
        raise NotImplementedError(LINUX_ONLY)


def send_signal(pidfd: int, signum: signal.Signals) -> None:
    """Send a signal to a process. Raises ProcessLookupError when it has ended."""
    if sys.platform == "linux":
        signal.pidfd_send_signal(pidfd, signum)
    else:
        raise NotImplementedError(LINUX_ONLY)


def has_ended(pidfd: int, patience: float = 0.0) -> bool:
    """Wait up to `patience` seconds for a process to end, and tell whether it has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(patience * 1000))
