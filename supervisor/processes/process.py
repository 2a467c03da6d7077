"""Processes: start one, notice its end at once, measure it, and tell it from another with the same pid."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Self

import psutil

from wsd.supervisor.machine import identity
from wsd.supervisor.machine.private_files import append_to
from wsd.supervisor.processes.service import Command
from wsd.supervisor.state_dir import ProcessRecord
from wsd.worker.contract.environment import WORKER_ID

KILL_SECONDS = 5.0
"""How long the end of a killed process is waited for."""


@dataclass(frozen=True)
class Usage:
    """What a process has used, at one moment."""

    at: float
    cpu_seconds: float
    rss: int
    zombie: bool

    @classmethod
    def of(cls, pid: int, *, with_children: bool = False) -> Self | None:
        """None when the process is gone. `with_children`: together with its direct children, as for nginx."""
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                cpu, rss = process.cpu_times(), process.memory_info().rss
                zombie = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        seconds = cpu.user + cpu.system
        for child in _children(pid) if with_children else ():
            with suppress(psutil.Error):
                cpu = psutil.Process(child).cpu_times()
                seconds += cpu.user + cpu.system
                rss += psutil.Process(child).memory_info().rss
        return cls(time.monotonic(), seconds, rss, zombie)

    def cpu_percent_since(self, before: "Usage | None") -> float | None:
        """Percent of one core."""
        if before is None or self.at <= before.at:
            return None
        return max(0.0, 100 * (self.cpu_seconds - before.cpu_seconds) / (self.at - before.at))


def _children(pid: int) -> list[int]:
    """From proc(5), without a walk over all processes as psutil's."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Process:
    """A process of the cluster, in a session of its own: a Ctrl-C in the terminal reaches the supervisor alone.

    Its output goes straight to its log file, so nothing is lost and nobody blocks when we die. `on_exit` is
    called once, in the event loop, with the exit code (negative: the signal; None: it was not our child).
    """

    def __init__(
        self,
        record: ProcessRecord,
        root: Path,
        orphan_signal: signal.Signals,
        on_exit: Callable[[int | None], None],
        *,
        log_start: int,
        popen: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Take a process that runs; `spawn` starts one. `root`: the state directory.

        Raises ProcessLookupError when it has ended.
        """
        self.name = record.name
        self.pid = record.pid
        self.record = record
        self.log_start = log_start
        self.started_at = time.monotonic() - identity.uptime_of(record.start_ticks)
        self._popen = popen
        self._root = root
        self._orphan_signal = orphan_signal
        self._on_exit = on_exit
        # One that was just started cannot be another: its number is kept until we have waited for it.
        self._pidfd: int | None = os.pidfd_open(self.pid) if popen is not None else open_pidfd(record, root)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    @classmethod
    def spawn(
        cls,
        name: str,
        incarnation: int,
        command: Command,
        log: Path,
        root: Path,
        orphan_signal: signal.Signals,
        on_exit: Callable[[int | None], None],
    ) -> Self:
        """Raises OSError when the program cannot be run."""
        if command.directory is not None and not command.directory.is_dir():
            raise NotADirectoryError(f"the directory {command.directory} is missing")
        with append_to(log) as output:
            log_start = output.tell()
            popen = subprocess.Popen(
                command.argv,
                cwd=command.directory,
                env={**command.env, identity.MARK: str(root.resolve())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.pass_fds,
                umask=command.umask,
            )
        stat = identity.stat_of(popen.pid)
        assert stat is not None  # it may have ended, and waits to be waited for
        worker_id = command.env.get(WORKER_ID, "")
        record = ProcessRecord(name, popen.pid, stat.start_ticks, identity.current_boot(), incarnation, worker_id)
        return cls(record, root, orphan_signal, on_exit, log_start=log_start, popen=popen)

    def signal(self, signum: signal.Signals) -> None:
        """Send to the process; nothing happens when it is gone already."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signum)

    def kill(self) -> None:
        """Kill the process and all in its group: what hangs may hold a port together."""
        if self._pidfd is not None:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, signum: Signals) -> None:
        """Send to all in its group, whether the process itself lives or has just ended."""
        if self._is_child():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)
        else:
            identity.signal_group(self.pid, signum, self._root, leader=self._pidfd)

    def _is_child(self) -> bool:
        """Whether its number is kept for it until we have waited for it."""
        stat = identity.stat_of(self.pid)
        return stat is not None and stat.parent == os.getpid() and stat.start_ticks == self.record.start_ticks

    def children(self) -> list[int]:
        """The pids of its direct children."""
        return _children(self.pid)

    def usage(self) -> Usage | None:
        return Usage.of(self.pid, with_children=True)

    def _ended(self) -> None:
        assert self._pidfd is not None
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._signal_group(self._orphan_signal)
        os.close(self._pidfd)
        self._pidfd = None
        self._on_exit(self._exit_code())

    def _exit_code(self) -> int | None:
        if self._popen is not None:
            return self._popen.wait()
        try:
            _, status = os.waitpid(self.pid, 0)  # ours, if we are what the supervisor that started it has become
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)


def is_alive(record: ProcessRecord, root: Path) -> bool:
    """Tell whether this very process still runs, and belongs to the cluster in the state directory `root`."""
    stat = identity.stat_of(record.pid)
    if stat is None or stat.has_ended or stat.start_ticks != record.start_ticks:
        return False
    return record.boot == identity.current_boot() and identity.carries_mark(record.pid, root, record.worker_id)


def open_pidfd(record: ProcessRecord, root: Path) -> int:
    """Return a descriptor of this very process, which no other process can take the place of.

    Raises ProcessLookupError when it has ended.
    """
    pidfd = os.pidfd_open(record.pid)
    if is_alive(record, root):  # looked at after it was opened: the descriptor is of the process that was seen
        return pidfd
    os.close(pidfd)
    raise ProcessLookupError(f"{record.name} (pid {record.pid}) has ended")


def describe_exit(code: int | None) -> str:
    """`exit code 3`, or `killed by SIGKILL`."""
    if code is None:
        return "it ended"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def end_leftovers(records: Sequence[ProcessRecord], root: Path, patience: float) -> list[ProcessRecord]:
    """End what a dead supervisor left running: SIGTERM, and SIGKILL after `patience` seconds.

    Blocks meanwhile. Returns the records whose processes were still alive.
    """
    with ExitStack() as opened:
        alive: dict[ProcessRecord, int] = {}
        for record in records:
            with suppress(OSError):
                alive[record] = open_pidfd(record, root)
                opened.callback(os.close, alive[record])
                signal.pidfd_send_signal(alive[record], signal.SIGTERM)
        deadline = time.monotonic() + patience
        for record, pidfd in alive.items():
            if not identity.has_ended(pidfd, max(0.0, deadline - time.monotonic())):
                identity.signal_group(record.pid, signal.SIGKILL, root, leader=pidfd)
                identity.has_ended(pidfd, KILL_SECONDS)
        for record in records:
            end_orphans(record, signal.SIGKILL, root)
    return list(alive)


def end_orphans(record: ProcessRecord, signum: signal.Signals, root: Path) -> None:
    """Send to what a process that has ended left in its group.

    A number is not given out again while a group has it: where another process has it, the group is gone.
    """
    stat = identity.stat_of(record.pid)
    is_gone = stat is None or (stat.has_ended and stat.start_ticks == record.start_ticks)
    if is_gone and record.boot == identity.current_boot():
        identity.signal_group(record.pid, signum, root)


def reap_others(kept: Collection[int]) -> None:
    """Wait for ended children that nobody else waits for, as PID 1 and a subreaper (prctl(2)) get them.

    `kept`: pids that are waited for elsewhere. So are programs that we run to their end; these stay in our own group.
    """
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for pid in map(int, path.read_text().split()):
                stat = identity.stat_of(pid)
                if stat is not None and stat.has_ended and stat.group != os.getpgrp() and pid not in kept:
                    os.waitpid(pid, os.WNOHANG)


def names_of(records: Sequence[ProcessRecord]) -> str:
    return ", ".join(f"{record.name} (pid {record.pid})" for record in records)


def port_holder(port: int) -> str | None:
    """Who listens on a port, as `nginx (pid 12)`; None when psutil cannot tell."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.pid is None:
            continue
        if connection.laddr.port == port:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return None


def raise_file_limit() -> int:
    """Every connection is a file: allow as many as the hard limit lets us, and say how many. Children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize
