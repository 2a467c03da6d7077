"""Warnings before a node refuses connections, its Redis refuses messages, or its disk is full. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from wsd.supervisor.counts import count
from wsd.supervisor.monitoring.finding import Finding, ok, warning

WARN_CONNECTIONS = 0.8
"""The share of the possible connections from which on there is a warning."""

WARN_MEMORY = 0.9
"""The share of Redis' maxmemory from which on there is a warning."""

REFUSALS_SECONDS = 15.0
"""How long the warning stays after the last message that Redis refused."""

LOW_DISK_BYTES = 500_000_000
"""The free space in the state directory below which there is a warning."""

WRITE_STATUSES = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
"""Fields of INFO persistence that are `ok` or `err`."""

FILES_BESIDE_CONNECTIONS = 256
"""Open files of a process that are not client connections: logs, connections to Redis, and so on."""


def connections_possible(workers: int, files: int, nginx_processes: int, worker_connections: int) -> int:
    """Return how many clients can be connected to the node at once.

    `files` is the number of open files that each process may have. `nginx_processes` is 0 without nginx.

    A client takes one open file in its worker. nginx needs two for it, and counts both in `worker_connections`.
    """
    in_workers = workers * max(0, files - FILES_BESIDE_CONNECTIONS)
    if not nginx_processes:
        return in_workers
    return min(in_workers, nginx_processes * min(worker_connections, files) // 2)


def connections_warning(connections: int, possible: int) -> str | None:
    """Return a warning when most of the possible connections are in use, or None."""
    if connections < possible * WARN_CONNECTIONS:
        return None
    return (
        f"{connections} of {possible} connections possible are in use: raise nginx.worker_connections, and the limit "
        "of open files if `wsd doctor` says so"
    )


def refusals_warning(refused_at: Iterable[float | None], now: float) -> str | None:
    """Return a warning when Redis has just refused messages, or None.

    `refused_at` holds, for each worker, when Redis last refused a message of it, or None. Times are in seconds.
    """
    workers = sum(at is not None and now - at < REFUSALS_SECONDS for at in refused_at)
    if not workers:
        return None
    return (
        f"Redis refuses messages of {count(workers, 'worker')}, and nobody receives them: "
        "`wsd logs --grep rejects` says why"
    )


def redis_disk_warning(info: Mapping[str, Any]) -> str | None:
    """Return a warning when a write of Redis to its disk has failed, or None.

    `info` is what Redis reports about itself (INFO persistence).
    """
    if "err" in [info.get(name) for name in WRITE_STATUSES]:
        return "Redis cannot write to its disk, and may refuse messages: make room there, then it continues by itself"
    return None


def redis_memory_warning(info: Mapping[str, Any], *, embedded: bool) -> str | None:
    """Return a warning when the memory of Redis is nearly full, or None.

    `info` is what Redis reports about itself (INFO memory). `embedded`: it is the Valkey of this node.
    """
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most or used < most * WARN_MEMORY:
        return None
    remedy = "raise redis.max_memory and restart the cluster" if embedded else "raise its maxmemory"
    megabytes = f"{used / 1e6:.0f} of {most / 1e6:.0f} MB"
    return (
        f"Redis has {megabytes} in use, and will refuse messages when it is full: "
        f"{remedy}, or shorten channel histories"
    )


def disk_space(free: int, directory: str) -> Finding:
    """Judge the free space of the disk on which a directory is, in bytes."""
    found = f"{free // 1_000_000} MB free in {directory}"
    return ok("disk", found) if free >= LOW_DISK_BYTES else warning("disk", found, "free some space for data and logs")
