"""Errors of Redis as the supervisor understands them, and servers that cannot be the Redis of a cluster."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from tests.support.valkey import error_of
from wsd.supervisor.control.problems import redis_problem
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError, redis_errors, role_problem, unusable

REPLICA = {"redis_mode": "standalone", "role": "slave", "master_host": "10.0.0.1", "master_port": 6379}


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        ({"redis_mode": "standalone", "role": "master"}, None),
        ({}, None),
        (REPLICA, "leads to a replica, which stores nothing: name its primary, 10.0.0.1:6379"),
        ({"redis_mode": "cluster", "role": "master"}, "leads to a Redis Cluster, which wsd does not support"),
        ({"server_mode": "cluster", "role": "master"}, "leads to a Redis Cluster, which wsd does not support"),
        (
            {"redis_mode": "sentinel"},
            "leads to a Sentinel: name the primary that it watches, as redis+sentinel://HOST:26",
        ),
        ({"server_mode": "sentinel"}, "leads to a Sentinel: name the primary that it watches"),
    ],
)
def test_a_server_whose_role_is_wrong_is_a_problem(info: dict[str, Any], problem: str | None) -> None:
    found = role_problem(info)
    assert found == problem or (found is not None and problem is not None and found.startswith(problem))


@pytest.mark.parametrize(
    ("url", "use"),
    [
        (
            "redis://:pw@10.0.0.9:26380/0",
            "redis+sentinel://10.0.0.9:26380/chat or redis+sentinel://10.0.0.9:26380/jobs",
        ),
        ("rediss://[::1]", "rediss+sentinel://[::1]:26379/chat or rediss+sentinel://[::1]:26379/jobs"),
    ],
)
def test_a_url_that_leads_to_a_sentinel_is_answered_with_those_to_use(url: str, use: str) -> None:
    masters = {"sentinel_masters": 2, "master0": {"name": "chat"}, "master1": {"name": "jobs"}}
    assert str(role_problem({"redis_mode": "sentinel", **masters}, url)).endswith(f"as {use}")


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
def test_the_role_of_a_server_is_known_from_its_refusal_to_tell_it(answer: str, problem: str | None) -> None:
    found = unusable(error_of(answer)).wrong_server
    assert found == problem or (found is not None and problem is not None and found.startswith(problem))


IN_SCRIPT = " script: 9f, on @user_script:6."


@pytest.mark.parametrize(
    ("answer", "words", "is_full"),
    [
        ("MISCONF Errors writing to the AOF file: No space left on device", "refuses to write: its disk is full", True),
        ("MISCONF Errors writing to the AOF file: Input/output error", "it cannot write to its disk", True),
        ("MISCONF Redis is configured to save RDB snapshots, but", "it cannot write to its disk", True),
        ("OOM command not allowed when used memory > 'maxmemory'.", "refuses to write: its memory is full", True),
        ("READONLY You can't write against a read only replica.", "refuses to write: it is a replica", False),
        ("NOREPLICAS Not enough good replicas to write.", "too few replicas", False),
        ("LOADING Redis is loading the dataset in memory", "loads its data", False),
        ("BUSY Redis is busy running a script.", "busy with a script", False),
        ("ERR Command # 1 (GET a) of pipeline caused error: ('BUSY Valkey is busy',)", "busy with a script", False),
        ("MASTERDOWN Link with MASTER is down", "a replica without its primary", False),
        ("NOAUTH Authentication required.", "the password is missing", False),
        ("WRONGPASS invalid username-password pair", "the password is missing or wrong", False),
        ("NOPERM this user has no permissions to run the 'evalsha' command", "lacks a permission", False),
        ("ERR something new", "Redis refuses us", False),
    ],
)
@pytest.mark.parametrize("suffix", ["", IN_SCRIPT])
def test_every_answer_is_a_sign_of_life_and_said_in_words(answer: str, words: str, is_full: bool, suffix: str) -> None:
    error = unusable(error_of(answer + suffix))
    assert error.has_answered
    assert words in error.summary
    assert error.stores_nothing is is_full
    assert error.is_auth_error is answer.startswith(("NOAUTH", "WRONGPASS", "NOPERM"))
    assert ("reach nobody" in redis_problem(error, has_fallback=False)) is is_full


def test_a_server_with_too_many_clients_has_answered() -> None:
    assert unusable(error_of("ERR max number of clients reached")).has_answered


@pytest.mark.parametrize(
    "error", [OSError("refused"), RedisTimeout("Timeout"), RedisConnectionError("Connection closed")]
)
def test_an_error_of_the_network_is_not_an_answer(error: Exception) -> None:
    found = unusable(error)
    assert not found.has_answered
    assert redis_problem(found, has_fallback=True) == f"Redis does not answer, messages stay on this node: {error}"


@pytest.mark.anyio
async def test_an_error_of_redis_py_does_not_leave_the_block() -> None:
    with pytest.raises(RedisUnusableError, match="Connection closed"), redis_errors():
        raise RedisConnectionError("Connection closed")


@pytest.mark.anyio
async def test_a_cancellation_that_redis_py_swallows_ends_the_block_all_the_same() -> None:
    entered = asyncio.Event()

    async def ask() -> None:
        with redis_errors():
            entered.set()
            with suppress(asyncio.CancelledError):  # as asyncio.wait_for does before Python 3.12
                await asyncio.Event().wait()
        raise AssertionError("the block was left")

    task = asyncio.create_task(ask())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
