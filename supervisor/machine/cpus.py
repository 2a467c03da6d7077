"""The number of CPUs that this process may use. Containers, cgroups and taskset limit it."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def available_cpus() -> int:
    """Return the number of CPUs that this process may use, at least 1.

    It is limited by the CPU affinity (sched_setaffinity(2)) and by the quotas of cgroups.
    """
    if sys.platform == "linux":
        allowed = float(len(os.sched_getaffinity(0)))
    else:
        allowed = float(os.cpu_count() or 1)
    try:
        membership = OWN_CGROUPS.read_text()
    except OSError:
        membership = ""
    for directory in cpu_cgroups(membership):
        allowed = min(allowed, _quota(CGROUPS / directory))
    return max(1, math.ceil(allowed))


def cpu_cgroups(membership: str) -> Iterator[Path]:
    """Yield the cgroups that may limit the CPU time of a process, as paths below the cgroup file system.

    `membership` is the text of /proc/self/cgroup (cgroups(7)). The limits of all parent cgroups apply as well.
    """
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root = Path()  # version 2
        elif "cpu" in controllers.split(","):
            root = Path("cpu")  # version 1
        else:
            continue
        own = root / path.lstrip("/")
        yield own
        # Inside a container the path may be that of the host, which does not exist there. The root always exists.
        yield from (above for above in own.parents if above.is_relative_to(root))


def _quota(cgroup: Path) -> float:
    """Return the number of CPUs that a cgroup may use, or infinity if it has no quota."""
    try:
        return parse_quota((cgroup / "cpu.max").read_text())
    except OSError:
        pass
    try:
        quota = (cgroup / "cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu.cfs_period_us").read_text()
    except OSError:
        return math.inf
    return parse_quota(f"{quota} {period}")


def parse_quota(text: str) -> float:
    """Return the number of CPUs that `quota period` stands for, both in microseconds.

    A quota of `max` or -1 is infinity (the kernel's cgroup-v2.rst).
    """
    try:
        quota, period = map(float, text.replace("max", "-1").split())
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
