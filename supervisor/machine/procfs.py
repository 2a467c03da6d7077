"""Facts about processes from /proc (proc(5))."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

LINUX_ONLY = "a cluster runs on Linux only"

CLOCK_TOLERANCE_SECONDS = 2.0
"""How far two start times of the same process may differ when one of them was taken from the wall clock."""

EMPTY_READS = 10
EMPTY_SECONDS = 0.002
"""How often an empty environment is read again, and the pause before each further read."""


@dataclass(frozen=True)
class Stat:
    """The fields of /proc/<pid>/stat that wsd needs."""

    state: str
    parent: int
    group: int
    start_ticks: int  # since the boot

    @property
    def has_ended(self) -> bool:
        return self.state in ("Z", "X", "x")


def parse_stat(line: bytes) -> Stat:
    """Parse a line of /proc/<pid>/stat. The process name in its parentheses may itself hold spaces and parentheses."""
    fields = line.rpartition(b")")[2].split()
    return Stat(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[19]))


def stat_of(pid: int) -> Stat | None:
    """Return the Stat of a process, or None when there is no such process."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_bytes())
    except (OSError, IndexError, ValueError):
        return None


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's direct children. psutil would walk over all processes of the machine for that."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def members_of(group: int) -> Iterator[int]:
    """Yield the pids of the processes in a process group that have not ended."""
    for entry in Path("/proc").iterdir():
        stat = stat_of(int(entry.name)) if entry.name.isdecimal() else None
        if stat is not None and stat.group == group and not stat.has_ended:
            yield int(entry.name)


def environment_of(pid: int) -> list[bytes]:
    """Return the environment of a process as `NAME=value` entries.

    A process that has just called execve(2) shows an empty environment until the kernel has copied it: hence retries.
    Raises OSError.
    """
    for _ in range(EMPTY_READS):
        if shown := Path(f"/proc/{pid}/environ").read_bytes():
            return shown.split(b"\0")
        time.sleep(EMPTY_SECONDS)
    return []


def boot_id() -> str:
    """Return the random id of the current boot, or an empty string in a sandbox that hides it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def current_boot() -> str:
    """Identify the boot and the PID namespace: pids and start ticks are only meaningful within both.

    Returns an empty string in a sandbox that hides them.
    """
    try:
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    boot = boot_id()
    return f"{boot} {namespace}" if boot else ""


def uptime_of(start_ticks: int) -> float:
    """Return for how many seconds a process has been running, given its start in ticks since the boot."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / TICKS_PER_SECOND
    else:  # noqa: RET505 - it tells mypy that this is for Linux
        raise NotImplementedError(LINUX_ONLY)


def ticks_at(pid: int, created: float) -> int:
    """Return the start ticks of the process `pid` if it was created at `created`, otherwise 0.

    `created` is by the wall clock, in seconds since the epoch.
    """
    stat = stat_of(pid)
    if stat is None:
        return 0
    is_same = abs(time.time() - uptime_of(stat.start_ticks) - created) <= CLOCK_TOLERANCE_SECONDS
    return stat.start_ticks if is_same else 0
