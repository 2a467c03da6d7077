"""The worker's connections to Redis."""

import asyncio
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

__all__ = [
    "LOST",
    "Redis",
    "RedisError",
    "is_refusal",
    "is_unusable",
    "open_redis",
    "raise_if_cancelled",
    "refusal_text",
]

LOST = (RedisError, OSError, TimeoutError)
"""What says that Redis does not answer, or answers with an error."""


def open_redis(url: str, *, connect_timeout: float, timeout: float | None) -> Redis:
    """A client with its own pool; nothing is connected yet. Timeouts in seconds, None: wait for ever.

    It never retries by itself: a publish whose answer was lost may have been carried out, and sending it
    again would deliver it twice.

    Without a timeout it is for listening, and for who sees to the time by himself; it speaks RESP2 then: redis-py takes
    half as long for a message (5 us instead of 11), since it does not format each for a log first.

    Raises ValueError for a malformed URL.
    """
    options: dict[str, Any] = {"protocol": 2} if timeout is None else {}
    redis: Redis = Redis.from_url(
        url, socket_connect_timeout=connect_timeout, socket_timeout=timeout, retry=Retry(NoBackoff(), 0), **options
    )
    pool = redis.connection_pool
    pool.connection_class = _packing_in_c(pool.connection_class)  # type: ignore[arg-type]
    return redis


@cache
def _packing_in_c(connection_class: type[Any]) -> type[Any]:
    """redis-py's asyncio connections write commands in Python, 10 us each; hiredis takes half of one."""

    class PackingConnection(connection_class):  # type: ignore[misc]
        def pack_command(self, *args: Any) -> list[bytes]:
            return [_pack(args)]

        def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
            return [b"".join([_pack(tuple(command)) for command in commands])]

    return PackingConnection


def _pack(command: tuple[Any, ...]) -> bytes:
    if " " in command[0]:  # CONFIG GET and the like are two words to the server
        command = (*command[0].split(), *command[1:])
    packed: bytes = hiredis.pack_command(command)
    return packed


def raise_if_cancelled() -> None:
    """To be called in a loop that talks to Redis, after it did.

    redis-py sends with asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes while
    the send completes: to go on after it would leave who cancelled waiting for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


UNUSABLE = (ReadOnlyError, AskError, ClusterDownError, ClusterCrossSlotError, TryAgainError)
"""Answers of a server that is a replica, or part of a cluster. MOVED is an AskError, MASTERDOWN a ClusterDownError."""

# redis-py has no exception for these; some it knows only at the beginning of an answer, and not in a script's error.
# For an error in a pipeline it writes the answer as a tuple: "Command # 1 (GET a) of pipeline caused error: ('BUSY',)".
_UNUSABLE_CODE = re.compile(
    r"(?:^|caused error: (?:\(['\"])?|@user_script.*: -?)"
    r"(?:READONLY|MOVED|ASK|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|LOADING|TRYAGAIN|CROSSSLOT|BUSY|DENIED) "
)


def is_unusable(exc: BaseException) -> bool:
    """Tell whether Redis answered, but can carry out nothing at present: it is a replica, loads its data, and so on.

    Redis then counts as away. After a failover, or in a while, the same request may well succeed.
    """
    return isinstance(exc, UNUSABLE) or (isinstance(exc, ResponseError) and bool(_UNUSABLE_CODE.search(str(exc))))


def is_refusal(exc: BaseException) -> bool:
    """Tell whether Redis answered, and refuses this one request (OOM, WRONGTYPE, NOPERM, MISCONF, and the like).

    It is not away, and to ask again would not help.
    """
    return isinstance(exc, ResponseError) and not is_unusable(exc)


REFUSALS: dict[str | type[RedisError], str] = {
    OutOfMemoryError: "the memory of Redis is full",
    NoPermissionError: "Redis does not permit it",
    "MISCONF": "Redis cannot write to its disk",
    "WRONGTYPE": "something else stands in its place",
}
"""Some errors have a class in redis-py, others only the first word of Redis' text."""


def refusal_text(exc: BaseException) -> str:
    """Say to a client why a message is not stored, without Redis' own words: they name commands, scripts and keys."""
    first_word = str(exc).partition(" ")[0]
    found = (text for key, text in REFUSALS.items() if key == first_word or key is type(exc))
    return f"the message is not stored: {next(found, 'Redis refuses it')}"
