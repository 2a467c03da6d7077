"""The CPU time and the memory that a process uses."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil

from wsd.supervisor.machine.procfs import children_of


@dataclass(frozen=True)
class Usage:
    """The resources of one process at one moment."""

    at: float  # time.monotonic()
    cpu_seconds: float  # since the process started
    rss: int  # bytes
    zombie: bool

    @classmethod
    def of(cls, pid: int, *, with_children: bool = False) -> Self | None:
        """Measure a process, or return None when it is gone.

        `with_children` adds the CPU time and memory of its direct children, e.g. of nginx's worker processes.
        """
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                cpu, rss = process.cpu_times(), process.memory_info().rss
                zombie = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        seconds = cpu.user + cpu.system
        for child in children_of(pid) if with_children else ():
            with suppress(psutil.Error):
                cpu = psutil.Process(child).cpu_times()
                seconds += cpu.user + cpu.system
                rss += psutil.Process(child).memory_info().rss
        return cls(time.monotonic(), seconds, rss, zombie)

    def cpu_percent_since(self, before: "Usage | None") -> float | None:
        """Return the CPU use since an earlier measurement, in percent of one core. None without an earlier one."""
        if before is None or self.at <= before.at:
            return None
        return max(0.0, 100 * (self.cpu_seconds - before.cpu_seconds) / (self.at - before.at))
