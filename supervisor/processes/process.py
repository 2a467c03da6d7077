"""One process of the cluster: start it, notice its end at once, send it signals and measure it."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import Self

from wsd.supervisor.machine.identity import MARK, signal_group
from wsd.supervisor.machine.pidfd import pidfd_of, send_signal
from wsd.supervisor.machine.private_files import append_to
from wsd.supervisor.machine.procfs import children_of, current_boot, stat_of, uptime_of
from wsd.supervisor.processes.recorded import open_pidfd
from wsd.supervisor.processes.service import Command
from wsd.supervisor.processes.usage import Usage
from wsd.supervisor.state_dir.records import ProcessRecord
from wsd.worker.contract.environment import WORKER_ID


class Process:
    """A process of the cluster, in a session of its own, so that Ctrl-C in the terminal reaches only the supervisor.

    The process writes its output directly to its log file. So when the supervisor dies, no output is lost, and the
    process does not block on a pipe.
    """

    def __init__(
        self,
        record: ProcessRecord,
        root: Path,
        orphan_signal: Signals,
        on_exit: Callable[[int | None], None],
        *,
        log_start: int,
        popen: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Watch a process that runs already; `spawn` starts a new one.

        `root` is the state directory. `log_start` is the size of the log file before the process wrote to it, in bytes.
        `on_exit` is called once, in the event loop, with the exit code: the negated signal number if a signal ended the
        process, or None if the process is not our child.

        Raises ProcessLookupError when the process has ended.
        """
        self.pid = record.pid
        self.record = record
        self.log_start = log_start
        self.started_at = time.monotonic() - uptime_of(record.start_ticks)
        self._popen = popen
        self._root = root
        self._orphan_signal = orphan_signal
        self._on_exit = on_exit
        # The pid of our own child is not reused before we have waited for it, so no check is needed.
        self._pidfd: int | None = pidfd_of(self.pid) if popen is not None else open_pidfd(record, root)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    @classmethod
    def spawn(
        cls,
        name: str,
        incarnation: int,
        command: Command,
        log: Path,
        root: Path,
        orphan_signal: Signals,
        on_exit: Callable[[int | None], None],
    ) -> Self:
        """Start a process. The arguments are as for the constructor.

        Raises OSError when the program cannot be run.
        """
        if command.directory is not None and not command.directory.is_dir():
            raise NotADirectoryError(f"the directory {command.directory} is missing")
        with append_to(log) as output:
            log_start = output.tell()
            popen = subprocess.Popen(
                command.argv,
                cwd=command.directory,
                env={**command.env, MARK: str(root.resolve())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.pass_fds,
                umask=command.umask,
            )
        stat = stat_of(popen.pid)
        assert stat is not None  # if it has ended already, it is a zombie until we wait for it
        worker_id = command.env.get(WORKER_ID, "")
        record = ProcessRecord(name, popen.pid, stat.start_ticks, current_boot(), incarnation, worker_id)
        return cls(record, root, orphan_signal, on_exit, log_start=log_start, popen=popen)

    def signal(self, signum: Signals) -> None:
        """Send a signal to the process, if it still runs."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                send_signal(self._pidfd, signum)

    def kill(self) -> None:
        """Kill the process and its process group: other members of the group may hold its port open."""
        if self._pidfd is not None:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, signum: Signals) -> None:
        """Send a signal to the process group. The process itself may have just ended."""
        if self._is_child():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)
        else:
            signal_group(self.pid, signum, self._root, leader=self._pidfd)

    def _is_child(self) -> bool:
        """Tell whether the process is our child, so that its pid is not reused before we have waited for it."""
        stat = stat_of(self.pid)
        return stat is not None and stat.parent == os.getpid() and stat.start_ticks == self.record.start_ticks

    def children(self) -> list[int]:
        """Return the pids of its direct children."""
        return children_of(self.pid)

    def usage(self) -> Usage | None:
        """Measure the process and its direct children, or return None when it is gone."""
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
            _, status = os.waitpid(self.pid, 0)  # our child after `wsd upgrade`, which keeps the pid of the supervisor
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)


def describe_exit(code: int | None) -> str:
    """Return an exit code in words: `exit code 3`, or `killed by SIGKILL`."""
    if code is None:
        return "it ended"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
