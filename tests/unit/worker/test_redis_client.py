"""The errors of redis-py are turned into errors of the worker, which say whether Redis is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.support.valkey import error_of
from wsd.worker.errors import RedisFailure, RedisUnavailableError
from wsd.worker.redis_client import redis_error, redis_errors


@pytest.mark.parametrize(
    "answer",
    [
        "READONLY You can't write against a read only replica.",
        "MOVED 3999 127.0.0.1:6381",
        "ASK 3999 127.0.0.1:6381",
        "CLUSTERDOWN Hash slot not served",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "DENIED Redis is running in protected mode",
        """ERR Command # 1 (GET a) of pipeline caused error: ('BUSY Valkey is busy running a script.',)""",
        """ERR Command # 1 (GET a) of pipeline caused error: ("NOREPLICAS it's few",)""",
        # The words of releases before 7 for an error within a script.
        "ERR Error running script (call to f_ab12): @user_script:9: @user_script: 9: -READONLY You can't write",
        "ERR Error running script (call to f_ab12): @user_script:9: -NOREPLICAS Not enough good replicas to write.",
    ],
)
def test_a_server_that_can_carry_out_nothing_is_away(answer: str) -> None:
    error = redis_error(error_of(answer))
    assert error.unusable
    assert not error.rejected


@pytest.mark.parametrize(
    "answer", ["LOADING Redis is loading the dataset in memory", "NOAUTH Authentication required."]
)
def test_redis_py_takes_some_answers_for_a_lost_connection(answer: str) -> None:
    error = error_of(answer)
    assert isinstance(error, RedisConnectionError)
    assert redis_error(error).failure is RedisFailure.NO_ANSWER


@pytest.mark.parametrize(
    "answer",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "NOPERM User x has no permissions to access one of the keys used as arguments",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "ERR value is not an integer or out of range",
        "ERR Error running script (call to f_ab12): @user_script:9: @user_script: 9: -OOM command not allowed",
        "ERR the channel MOVED 1 is no name",
    ],
)
def test_a_server_that_rejects_one_request_is_not_away(answer: str) -> None:
    error = redis_error(error_of(answer))
    assert error.failure is RedisFailure.REJECTED
    assert error.rejected
    assert not error.unusable


def test_a_replica_is_distinguished_from_other_unusable_servers() -> None:
    replica = redis_error(error_of("READONLY You can't write against a read only replica."))
    assert replica.failure is RedisFailure.READ_ONLY
    assert redis_error(error_of("CLUSTERDOWN Hash slot not served")).failure is RedisFailure.UNUSABLE


def test_a_client_learns_why_its_message_was_rejected_but_no_command_of_redis() -> None:
    error = redis_error(error_of("OOM command not allowed when used memory > 'maxmemory'."))
    assert error.public_reason == "the memory of Redis is full"


@pytest.mark.anyio
async def test_an_error_of_redis_py_becomes_redis_unavailable_error() -> None:
    with pytest.raises(RedisUnavailableError, match="WRONGTYPE") as caught:
        async with redis_errors():
            raise ResponseError("WRONGTYPE Operation against a key")
    assert caught.value.rejected
    assert isinstance(caught.value.__cause__, ResponseError)


@pytest.mark.anyio
async def test_a_lost_connection_becomes_redis_unavailable_error() -> None:
    with pytest.raises(RedisUnavailableError, match="ConnectionResetError") as caught:
        async with redis_errors():
            raise ConnectionResetError
    assert caught.value.failure is RedisFailure.NO_ANSWER


@pytest.mark.anyio
async def test_a_block_that_takes_too_long_raises_redis_unavailable_error() -> None:
    with pytest.raises(RedisUnavailableError, match="no answer in time"):
        async with redis_errors(0.01):
            await asyncio.sleep(60)


@pytest.mark.anyio
async def test_other_errors_leave_the_block_as_they_are() -> None:
    with pytest.raises(LookupError):
        async with redis_errors():
            raise LookupError


@contextlib.asynccontextmanager
async def swallowed_cancellation() -> AsyncIterator[None]:
    """Do what redis-py does before Python 3.12: swallow a cancellation and continue."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    yield


@pytest.mark.anyio
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_a_cancellation_that_redis_py_swallows_leaves_the_block(error: Exception | None) -> None:
    went_on = False

    async def write() -> None:
        nonlocal went_on
        async with redis_errors(10), swallowed_cancellation():
            if error is not None:
                raise error
        went_on = True

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on


@pytest.mark.anyio
async def test_a_task_that_cleans_up_after_its_cancellation_can_still_use_redis() -> None:
    cleaned_up = False

    async def serve() -> None:
        nonlocal cleaned_up
        try:
            await asyncio.sleep(60)
        finally:
            async with redis_errors(10):
                await asyncio.sleep(0)
            cleaned_up = True

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned_up


@pytest.mark.anyio
async def test_a_time_limit_around_the_block_that_redis_py_swallows_still_ends_it() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), redis_errors(), swallowed_cancellation():
            pass
