"""Processes: start one, notice its end at once, measure it, and tell it from another with the same pid."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from wsd.supervisor.service import Command
from wsd.supervisor.state_dir import ProcessRecord
from wsd.worker.contract import WORKER_ID

CLOCK_TOLERANCE_SECONDS = 2.0


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
        orphan_signal: signal.Signals,
        on_exit: Callable[[int | None], None],
        *,
        log_start: int,
        popen: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Of one that runs; `spawn` starts one. Raises ProcessLookupError when it is gone."""
        self.name = record.name
        self.pid = record.pid
        self.record = record
        self.log_start = log_start
        self.started_at = time.monotonic() - max(0.0, time.time() - record.create_time)
        self._popen = popen
        self._orphan_signal = orphan_signal
        self._on_exit = on_exit
        self._pidfd: int | None = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    @classmethod
    def spawn(
        cls,
        name: str,
        incarnation: int,
        command: Command,
        log: Path,
        orphan_signal: signal.Signals,
        on_exit: Callable[[int | None], None],
    ) -> Self:
        """Raises OSError when the program cannot be run."""
        with log.open("ab") as output:
            log_start = output.tell()
            popen = subprocess.Popen(
                command.argv,
                env=command.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.pass_fds,
            )
        created = psutil.Process(popen.pid).create_time()
        record = ProcessRecord(name, popen.pid, created, incarnation, command.env.get(WORKER_ID, ""))
        return cls(record, orphan_signal, on_exit, log_start=log_start, popen=popen)

    def signal(self, signum: signal.Signals) -> None:
        """Send to the process; nothing happens when it is gone already."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signum)

    def kill(self) -> None:
        """The process and all in its group: what hangs may hold a port together."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def children(self) -> list[int]:
        """The pids of its direct children."""
        return _children(self.pid)

    def usage(self) -> Usage | None:
        return Usage.of(self.pid, with_children=True)

    def _ended(self) -> None:
        assert self._pidfd is not None
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        # No new process gets this number while members of its group live, so the group is still ours.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, self._orphan_signal)
        self._on_exit(self._exit_code())

    def _exit_code(self) -> int | None:
        if self._popen is not None:
            return self._popen.wait()
        try:
            _, status = os.waitpid(self.pid, 0)  # ours, if we are what the supervisor that started it has become
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)


def is_alive(record: ProcessRecord) -> bool:
    """Whether this very process still runs, and not another with its pid."""
    try:
        process = psutil.Process(record.pid)
        if not _is_same(record) or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return not record.worker_id or process.environ().get(WORKER_ID) == record.worker_id
    except psutil.Error:
        return False


def _is_same(record: ProcessRecord) -> bool:
    """Whether the pid is still this process's, dead or alive. Raises psutil.NoSuchProcess."""
    # psutil counts from the time of the boot, which moves when the clock is set.
    return abs(psutil.Process(record.pid).create_time() - record.create_time) <= CLOCK_TOLERANCE_SECONDS


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


def end_leftovers(records: Sequence[ProcessRecord], patience: float) -> list[ProcessRecord]:
    """End what a dead supervisor left running: SIGTERM, and SIGKILL after `patience` seconds.

    Blocks meanwhile. Returns the records whose processes were still alive.
    """
    alive: dict[ProcessRecord, psutil.Process] = {}
    for record in records:
        with suppress(psutil.NoSuchProcess):
            if is_alive(record):
                process = alive[record] = psutil.Process(record.pid)
                process.terminate()
                continue
        end_orphans(record, signal.SIGKILL)
    _, stubborn = psutil.wait_procs(list(alive.values()), timeout=patience)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=patience)
    return list(alive)


def end_orphans(record: ProcessRecord, signum: signal.Signals) -> None:
    """Send to what a process that has ended left in its group; no other group has its number meanwhile."""
    with suppress(ProcessLookupError, psutil.Error):
        if not psutil.pid_exists(record.pid) or (_is_same(record) and not is_alive(record)):
            os.killpg(record.pid, signum)


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
