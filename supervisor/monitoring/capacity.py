"""How many connections a node can hold, and how full its Redis is: warnings before something is refused. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

FULL = 0.8
"""Part of the connections possible from which on people are warned."""

FULL_MEMORY = 0.9

REFUSALS_SECONDS = 15.0
"""How long people are warned after the last message that Redis has refused."""

WRITES = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")

FILES_BESIDE_CONNECTIONS = 256
"""Of a process: logs, sockets to Redis, and the like."""


def connections_possible(workers: int, files: int, nginx_processes: int, worker_connections: int) -> int:
    """`files`: descriptors that each process may have; without nginx there are no `nginx_processes`.

    A client is one file of its worker; nginx has two for it, and counts both as its `worker_connections`.
    """
    in_workers = workers * max(0, files - FILES_BESIDE_CONNECTIONS)
    if not nginx_processes:
        return in_workers
    return min(in_workers, nginx_processes * min(worker_connections, files) // 2)


def connections_warning(connections: int, possible: int) -> str | None:
    if connections < possible * FULL:
        return None
    return (
        f"{connections} of {possible} connections possible: raise nginx.worker_connections, and the limit of file "
        "descriptors if `wsd doctor` says so"
    )


def refusals_warning(refused_at: Iterable[float | None], now: float) -> str | None:
    """`refused_at`: when Redis was last seen to refuse a message of each worker, None for never."""
    workers = sum(at is not None and now - at < REFUSALS_SECONDS for at in refused_at)
    if not workers:
        return None
    return (
        f"Redis refuses messages of {workers} worker{'s' if workers > 1 else ''}, nobody gets them: "
        "`wsd logs --grep refuses` says why"
    )


def redis_warning(info: Mapping[str, Any], *, embedded: bool) -> str | None:
    """What Redis tells of itself (INFO memory, persistence) that will have it refuse messages, or does."""
    if "err" in [info.get(name) for name in WRITES]:
        return "Redis cannot write to its disk, and may refuse messages: make room there, it goes on by itself"
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most or used < most * FULL_MEMORY:
        return None
    remedy = "raise redis.max_memory and start again" if embedded else "raise its maxmemory"
    megabytes = f"{used / 1e6:.0f} of {most / 1e6:.0f} MB"
    return f"Redis has {megabytes} in use, and refuses messages when it is full: {remedy}, or shorten channel histories"
