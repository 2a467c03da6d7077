"""Checks of this machine: versions of programs, and limits of the operating system."""

import importlib.metadata
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.doctor.versions import version_numbers
from wsd.supervisor.monitoring.capacity import FILES_BESIDE_CONNECTIONS
from wsd.supervisor.monitoring.finding import Finding, failure, ok, warning

LISTEN_BACKLOG = 4096
"""The backlog that nginx asks for. The kernel reduces it to somaxconn."""

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")

OLDEST_UVICORN = (0, 52, 1)


def versions() -> Iterator[Finding]:
    yield ok("Python", ".".join(map(str, sys.version_info[:3])))
    found = importlib.metadata.version("uvicorn")
    if version_numbers(found) < OLDEST_UVICORN:
        least = ".".join(map(str, OLDEST_UVICORN))
        yield failure("uvicorn", f"{found}: connections may hang", f"pip install 'uvicorn>={least}'")
    else:
        yield ok("uvicorn", found)


def file_limit(loaded: Loaded, hard: int) -> Finding:
    """Check the hard limit of file descriptors of a process.

    A connection needs one file descriptor of its worker and two of nginx.
    """
    wanted = 2 * loaded.config.nginx.worker_connections + FILES_BESIDE_CONNECTIONS
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return ok("file descriptors", "unlimited" if hard == resource.RLIM_INFINITY else f"limit {hard} per process")
    possible = (hard - FILES_BESIDE_CONNECTIONS) // 2
    return warning(
        "file descriptors",
        f"limit {hard} per process: enough for {possible} of nginx.worker_connections",
        f"set LimitNOFILE={wanted} in the systemd unit, or run `ulimit -Hn {wanted}` as root before the start",
    )


def somaxconn(path: Path) -> Finding:
    """Check how many connections may wait to be accepted."""
    check = "accept queue"
    try:
        found = int(path.read_text())
    except (OSError, ValueError):
        return ok(check, "not known on this system")
    if found >= LISTEN_BACKLOG:
        return ok(check, f"net.core.somaxconn is {found}")
    return warning(
        check,
        f"net.core.somaxconn is {found}: when many clients connect at once, some wait for a second or longer",
        f"sysctl -w net.core.somaxconn={LISTEN_BACKLOG}",
    )
