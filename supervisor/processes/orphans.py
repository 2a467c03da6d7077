"""End processes that nobody supervises any more: those of a dead supervisor, and the children of dead processes."""

import os
import signal
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from wsd.supervisor.machine.identity import signal_group
from wsd.supervisor.machine.pidfd import has_ended, send_signal
from wsd.supervisor.machine.procfs import current_boot, stat_of
from wsd.supervisor.processes.recorded import open_pidfd
from wsd.supervisor.state_dir.records import ProcessRecord

KILL_SECONDS = 5.0
"""How long to wait for the end of a process that was sent SIGKILL."""


def end_leftovers(records: Sequence[ProcessRecord], root: Path, patience: float) -> list[ProcessRecord]:
    """End the processes that a dead supervisor left running: SIGTERM, and SIGKILL after `patience` seconds.

    Blocks meanwhile. Returns the records whose processes were still alive.
    """
    with ExitStack() as opened:
        alive: dict[ProcessRecord, int] = {}
        for record in records:
            with suppress(OSError):
                alive[record] = open_pidfd(record, root)
                opened.callback(os.close, alive[record])
                send_signal(alive[record], signal.SIGTERM)
        deadline = time.monotonic() + patience
        for record, pidfd in alive.items():
            if not has_ended(pidfd, max(0.0, deadline - time.monotonic())):
                signal_group(record.pid, signal.SIGKILL, root, leader=pidfd)
                has_ended(pidfd, KILL_SECONDS)
        for record in records:
            end_orphans(record, signal.SIGKILL, root)
    return list(alive)


def end_orphans(record: ProcessRecord, signum: signal.Signals, root: Path) -> None:
    """Send a signal to the processes that an ended process left in its process group.

    The kernel does not reuse a pid while a process group of that number exists. So when another process has the pid,
    the group is gone.
    """
    stat = stat_of(record.pid)
    is_gone = stat is None or (stat.has_ended and stat.start_ticks == record.start_ticks)
    if is_gone and record.boot == current_boot():
        signal_group(record.pid, signum, root)


def reap_others(kept: Collection[int]) -> None:
    """Wait for ended child processes that no other code waits for.

    The kernel gives such children to PID 1 and to a subreaper (prctl(2)) when their own parent ends. `kept` are the
    pids that other code waits for. Programs that wsd runs to their end are waited for as well, and are recognised by
    their process group, which is our own.
    """
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for pid in map(int, path.read_text().split()):
                stat = stat_of(pid)
                if stat is not None and stat.has_ended and stat.group != os.getpgrp() and pid not in kept:
                    os.waitpid(pid, os.WNOHANG)
