"""The number of clients that a node can hold, and the warnings before it is full."""

from typing import Any

import pytest

from wsd.supervisor.monitoring.capacity import (
    connections_possible,
    connections_warning,
    disk_space,
    redis_disk_warning,
    redis_memory_warning,
    refusals_warning,
)
from wsd.supervisor.monitoring.finding import Grade


@pytest.mark.parametrize(
    ("workers", "files", "nginx_processes", "worker_connections", "expected"),
    [
        (4, 1_048_576, 2, 8192, 8192),  # nginx is the limit
        (4, 1024, 2, 8192, 1024),  # nginx's files are
        (1, 1024, 4, 8192, 768),  # the worker's files are
        (4, 1256, 0, 8192, 4000),  # without nginx
        (2, 100, 1, 64, 0),
        (0, 1024, 2, 8192, 0),
    ],
)
def test_the_smallest_limit_decides_how_many_connections_are_possible(
    workers: int, files: int, nginx_processes: int, worker_connections: int, expected: int
) -> None:
    assert connections_possible(workers, files, nginx_processes, worker_connections) == expected


@pytest.mark.parametrize(("connections", "is_warned"), [(0, False), (799, False), (800, True), (1000, True)])
def test_there_is_a_warning_from_four_fifths_of_the_connections_on(connections: int, is_warned: bool) -> None:
    text = connections_warning(connections, 1000)
    assert (text is not None) == is_warned
    if text is not None:
        assert text.startswith(f"{connections} of 1000 connections possible")


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, None),
        ({"used_memory": 10**9, "maxmemory": 0}, None),  # no limit
        ({"used_memory": 89, "maxmemory": 100}, None),
        ({"used_memory": 240_000_000, "maxmemory": 256_000_000}, "Redis has 240 of 256 MB in use"),
        ({"aof_last_write_status": "ok", "rdb_last_bgsave_status": "ok"}, None),
        ({"aof_last_write_status": "err"}, "Redis cannot write to its disk"),
        ({"rdb_last_bgsave_status": "err"}, "Redis cannot write to its disk"),
    ],
)
def test_warnings_about_the_memory_and_the_disk_of_redis(info: dict[str, Any], expected: str | None) -> None:
    text = redis_disk_warning(info) or redis_memory_warning(info, embedded=True)
    assert (text or "").startswith(expected or "")
    assert (text is None) == (expected is None)


@pytest.mark.parametrize(
    ("refused_at", "expected"),
    [
        ([], None),
        ([None, None], None),
        ([85.0, None], None),
        ([None, 85.1], "Redis refuses messages of 1 worker, and nobody receives them: "),
        ([95.0, 100.0, 1.0], "Redis refuses messages of 2 workers, and nobody receives them: "),
    ],
)
def test_there_is_a_warning_while_redis_refuses_messages(refused_at: list[float | None], expected: str | None) -> None:
    text = refusals_warning(refused_at, now=100.0)
    assert (text or "").startswith(expected or "")
    assert (text is None) == (expected is None)


def test_the_warning_names_the_setting_that_helps() -> None:
    info = {"used_memory": 95, "maxmemory": 100}
    assert "raise redis.max_memory and restart the cluster" in (redis_memory_warning(info, embedded=True) or "")
    assert "raise its maxmemory" in (redis_memory_warning(info, embedded=False) or "")


@pytest.mark.parametrize(
    ("free", "grade", "found"),
    [
        (499_999_999, Grade.WARNING, "499 MB free in /srv/wsd"),
        (500_000_000, Grade.OK, "500 MB free in /srv/wsd"),
    ],
)
def test_there_is_a_warning_while_the_disk_has_little_space_left(free: int, grade: Grade, found: str) -> None:
    finding = disk_space(free, "/srv/wsd")
    assert (finding.grade, finding.found) == (grade, found)
