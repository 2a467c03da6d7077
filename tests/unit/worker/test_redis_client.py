"""What an error of Redis says: that it is away, or that it refuses one request."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.valkey import error_of
from wsd.worker.redis_client import is_refusal, is_unusable


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
        # As releases before 7 tell of an error within a script.
        "ERR Error running script (call to f_ab12): @user_script:9: @user_script: 9: -READONLY You can't write",
        "ERR Error running script (call to f_ab12): @user_script:9: -NOREPLICAS Not enough good replicas to write.",
    ],
)
def test_a_server_that_can_carry_out_nothing_is_away(answer: str) -> None:
    error = error_of(answer)
    assert is_unusable(error)
    assert not is_refusal(error)


@pytest.mark.parametrize(
    "answer", ["LOADING Redis is loading the dataset in memory", "NOAUTH Authentication required."]
)
def test_redis_py_takes_some_answers_for_a_lost_connection(answer: str) -> None:
    error = error_of(answer)
    assert isinstance(error, RedisConnectionError)
    assert not is_refusal(error)


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
def test_a_server_that_refuses_one_request_is_not_away(answer: str) -> None:
    error = error_of(answer)
    assert is_refusal(error)
    assert not is_unusable(error)
