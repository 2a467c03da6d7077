"""Which processes belong to a cluster: a number alone proves nothing, because it is given out again.

A recorded process is known by its boot, its start time in ticks since that boot, and the mark that it carries. None of
them depends on the wall clock, which may be set at any time.
"""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "WSD_CLUSTER_DIR"
"""The environment variable by which every process of a cluster names its state directory."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

CLOCK_TOLERANCE_SECONDS = 2.0
"""How far the start time may lie apart in a record that has it by the wall clock."""

EMPTY_LOOKS = 10
EMPTY_SECONDS = 0.002
"""How often, and after how many seconds, an environment that shows nothing yet is read again."""

GROUP_ROUNDS = 10
"""How often a group is searched for members that were forked in the meantime."""


@dataclass(frozen=True)
class Stat:
    """What /proc/<pid>/stat says of a process, see proc(5)."""

    state: str
    parent: int
    group: int
    start_ticks: int  # since the boot

    @property
    def has_ended(self) -> bool:
        return self.state in ("Z", "X", "x")


def parse_stat(line: bytes) -> Stat:
    """Read a line of /proc/<pid>/stat. The name in its parentheses may hold spaces and parentheses itself."""
    fields = line.rpartition(b")")[2].split()
    return Stat(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[19]))


def stat_of(pid: int) -> Stat | None:
    """Return None when there is no such process."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_bytes())
    except (OSError, IndexError, ValueError):
        return None


def current_boot() -> str:
    """Name the boot and the PID namespace: pids and ticks of another one say nothing here."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # a sandbox that hides them
        return ""


def uptime_of(start_ticks: int) -> float:
    """Return the seconds since a process started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / TICKS_PER_SECOND


def ticks_at(pid: int, created: float) -> int:
    """Return the start ticks of a process that was recorded by the wall clock, or 0 when it is another one.

    `created`: seconds since the epoch.
    """
    stat = stat_of(pid)
    if stat is None:
        return 0
    is_same = abs(time.time() - uptime_of(stat.start_ticks) - created) <= CLOCK_TOLERANCE_SECONDS
    return stat.start_ticks if is_same else 0


def carries_mark(pid: int, root: Path, worker_id: str = "") -> bool:
    """Tell whether a process says by itself that it belongs to the cluster in the state directory `root`.

    The mark is in its environment. nginx, Valkey and programs that set their title overwrite the environment that can
    be seen from outside: they are known by their output, which goes to a log of the cluster.
    """
    resolved = root.resolve()
    with suppress(OSError):
        environment = _environment(pid)
        if os.fsencode(f"{MARK}={resolved}") in environment:
            return True
        if worker_id and f"WORKER_ID={worker_id}".encode() in environment:
            return True
    logs = resolved / "logs"
    for descriptor in (1, 2):
        with suppress(OSError):
            if Path(f"/proc/{pid}/fd/{descriptor}").readlink().is_relative_to(logs):
                return True
    return False


def _environment(pid: int) -> list[bytes]:
    """Return the environment that a process shows. Raises OSError.

    A process that has just begun shows none for a moment, until the kernel has laid it out (execve(2)).
    """
    for _ in range(EMPTY_LOOKS):
        if shown := Path(f"/proc/{pid}/environ").read_bytes():
            return shown.split(b"\0")
        time.sleep(EMPTY_SECONDS)
    return []


def members(group: int) -> Iterator[int]:
    """Yield the pids of a process group, those that have ended excepted."""
    for entry in Path("/proc").iterdir():
        stat = stat_of(int(entry.name)) if entry.name.isdecimal() else None
        if stat is not None and stat.group == group and not stat.has_ended:
            yield int(entry.name)


def signal_group(group: int, signum: signal.Signals, root: Path, *, leader: int | None = None) -> None:
    """Send a signal to the members of a process group that belong to the cluster in `root`.

    `leader`: a pidfd of the group's leader, which belongs to the cluster. As long as that process lives, the number is
    the group's own, and all its members belong to the cluster. Without it, each member must carry the mark.
    """
    done: set[int] = set()
    for _ in range(GROUP_ROUNDS):
        found = [pid for pid in members(group) if pid not in done]
        if not found:
            return
        with ExitStack() as opened:
            held = {}
            for pid in found:
                with suppress(OSError):
                    held[pid] = os.pidfd_open(pid)
                    opened.callback(os.close, held[pid])
            # Only now: what was found before the leader's end was in the leader's group.
            is_ours = leader is not None and not has_ended(leader)
            for pid, pidfd in held.items():
                stat = stat_of(pid)
                if stat is not None and stat.group == group and (is_ours or carries_mark(pid, root)):
                    with suppress(OSError):
                        signal.pidfd_send_signal(pidfd, signum)
        done.update(found)


def has_ended(pidfd: int, patience: float = 0.0) -> bool:
    """Wait up to `patience` seconds for the end of a process, and tell whether it has come."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(patience * 1000))
