"""What a server that cannot be the Redis of a cluster tells of itself."""

from typing import Any

import pytest

from tests.valkey import error_of
from wsd.supervisor.redis_watch import role_problem, wrong_server

REPLICA = {"redis_mode": "standalone", "role": "slave", "master_host": "10.0.0.1", "master_port": 6379}


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        ({"redis_mode": "standalone", "role": "master"}, None),
        ({}, None),
        (REPLICA, "leads to a replica, which stores nothing: name its primary, 10.0.0.1:6379"),
        ({"redis_mode": "cluster", "role": "master"}, "leads to a Redis Cluster, which wsd does not speak"),
        ({"redis_mode": "sentinel"}, "leads to a Sentinel: name the primary that it watches"),
    ],
)
def test_the_role_of_a_server(info: dict[str, Any], problem: str | None) -> None:
    found = role_problem(info)
    assert found == problem or (found is not None and problem is not None and found.startswith(problem))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("READONLY You can't write against a read only replica.", "leads to a replica"),
        ("MOVED 3999 127.0.0.1:6381", "leads to a Redis Cluster"),
        ("CLUSTERDOWN Hash slot not served", "leads to a Redis Cluster"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "leads to a Redis Cluster"),
        ("LOADING Redis is loading the dataset in memory", None),
        ("NOREPLICAS Not enough good replicas to write.", None),
        ("OOM command not allowed", None),
    ],
)
def test_who_may_not_ask_for_the_role_learns_it_from_the_answer(answer: str, problem: str | None) -> None:
    found = wrong_server(error_of(answer))
    assert found == problem or (found is not None and problem is not None and found.startswith(problem))
