"""The connections of the worker to Redis, and its errors: no other module names an exception of redis-py.

redis-py is imported with the first connection. It takes a fifth of the time in which a worker starts, and a worker that
keeps everything in memory never needs it.
"""

import asyncio
import importlib
import re
from collections.abc import Iterable
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

import hiredis

from wsd.worker.contract.host_names import looking_up_names
from wsd.worker.contract.redis_address import sentinel_address
from wsd.worker.contract.sentinels.primary_connection import leading_to_primary
from wsd.worker.contract.sentinels.sentinels import Sentinels
from wsd.worker.errors import RedisFailure, RedisUnavailableError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline, PubSub
else:
    Redis = Pipeline = PubSub = object  # others name them in annotations only

__all__ = [
    "Pipeline",
    "PubSub",
    "Redis",
    "import_redis",
    "is_missing_script",
    "is_open",
    "open_redis",
    "redis_error",
    "redis_errors",
]

CLOSED_HANDLER = "the handler is closed"
"""The end of the RuntimeError that uvloop raises for a write to a transport that is closed. asyncio drops the write."""


def import_redis() -> None:
    """Import redis-py now. Later, a file redis.py of the application might be taken for it."""
    importlib.import_module("redis.asyncio")


def open_redis(url: str, *, connect_timeout: float, timeout: float | None, sentinels: Sentinels | None = None) -> Redis:
    """Make a client with a pool of its own. Nothing is connected yet. The timeouts are in seconds; None is no limit.

    `sentinels`: those of a URL that names Sentinels, to share what they say. Without them the client has its own.

    The client never repeats a command by itself: a publish whose answer was lost may have been carried out, and would
    be delivered twice.

    A client without a timeout is for listening, and for callers that limit the time themselves. It speaks RESP2,
    with which redis-py takes 5 us for a message; with RESP3 it takes 11, since it formats each message for a log.

    Raises ValueError for a malformed URL, OSError for files of TLS that Sentinels need and that cannot be read.
    """
    from redis.asyncio import Redis as Client  # noqa: PLC0415 - see above
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    address = sentinel_address(url)
    if address is not None:
        url = address.server_url(address.sentinels[0])  # in the place of the primary, which each connection asks for
        sentinels = sentinels or Sentinels(address, timeout=connect_timeout)
    options: dict[str, Any] = {"protocol": 2} if timeout is None else {}
    redis: Redis = Client.from_url(
        url, socket_connect_timeout=connect_timeout, socket_timeout=timeout, retry=Retry(NoBackoff(), 0), **options
    )
    pool = redis.connection_pool
    connection_class = _packing_in_c(looking_up_names(pool.connection_class))  # type: ignore[arg-type]
    if address is not None and sentinels is not None:
        connection_class = leading_to_primary(connection_class, sentinels)
    pool.connection_class = connection_class
    return redis


def is_open(connection: Any) -> bool:
    """Tell whether a connection of redis-py can take a command. If it cannot, redis-py connects anew for the next."""
    return connection is not None and connection.is_connected and not getattr(connection, "is_dropped", False)


@cache
def _packing_in_c(connection_class: type[Any]) -> type[Any]:
    """Return a connection class that packs commands with hiredis, in 0.5 us each; redis-py takes 10 us.

    Its commands raise ConnectionError on a connection that was closed while redis-py took it for open.
    """

    from redis.exceptions import ConnectionError as RedisConnectionError  # noqa: PLC0415

    class PackingConnection(connection_class):  # type: ignore[misc]
        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            try:
                await super().send_packed_command(command, check_health)
            except RuntimeError as exc:
                if CLOSED_HANDLER not in str(exc):
                    raise
                raise RedisConnectionError("the connection was closed") from exc

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


class redis_errors:  # noqa: N801 - it is used like a function, as contextlib.suppress is
    """An `async with` block in which redis-py is called: what it raises becomes a RedisUnavailableError.

    `timeout` limits the block, in seconds; None is no limit.

    A cancellation that comes while the block runs always ends it. redis-py sends with asyncio.wait_for, which before
    Python 3.12 swallows a cancellation that comes while the send completes. A task that went on after it would leave
    the code that cancelled it waiting forever.
    """

    # A class and not a generator: there is one such block for every pipeline of messages.
    __slots__ = ("_cancellations", "_limit", "_task")

    def __init__(self, timeout: float | None = None) -> None:
        self._limit = asyncio.timeout(timeout)

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._cancellations = self._task.cancelling() if self._task is not None else 0
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._limit.__aexit__(kind, exc, trace)
        except TimeoutError as too_late:
            exc = too_late
        if exc is not None and not isinstance(exc, OSError) and not _is_of_redis(exc):
            return
        if self._task is not None and self._task.cancelling() > self._cancellations:
            raise asyncio.CancelledError
        if exc is not None:
            raise redis_error(exc) from exc


def redis_error(exc: BaseException) -> RedisUnavailableError:
    """Turn an error of redis-py, as it stands among the answers to a pipeline, into a RedisUnavailableError."""
    from redis.exceptions import ReadOnlyError, ResponseError  # noqa: PLC0415

    if isinstance(exc, ReadOnlyError):
        failure = RedisFailure.READ_ONLY
    elif _is_unusable(exc):
        failure = RedisFailure.UNUSABLE
    elif isinstance(exc, ResponseError):
        failure = RedisFailure.REJECTED
    else:
        failure = RedisFailure.NO_ANSWER
    reason = str(exc) or ("no answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__)
    error = RedisUnavailableError(reason, failure, public_reason=_public_reason(exc))
    error.__cause__ = exc
    return error


def _is_of_redis(exc: BaseException) -> bool:
    from redis.exceptions import RedisError  # noqa: PLC0415

    return isinstance(exc, RedisError)


# redis-py has no exception for most of these. Some it knows only at the beginning of an answer, and not in the error
# of a script. For an error in a pipeline it writes the answer as a tuple:
# "Command # 1 (GET a) of pipeline caused error: ('BUSY',)".
_UNUSABLE_CODE = re.compile(
    r"(?:^|caused error: (?:\(['\"])?|@user_script.*: -?)"
    r"(?:READONLY|MOVED|ASK|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|LOADING|TRYAGAIN|CROSSSLOT|BUSY|DENIED) "
)


def _is_unusable(exc: BaseException) -> bool:
    """Tell whether Redis answered that it can carry out nothing at present: it is a replica, or loads its data, say."""
    from redis.exceptions import (  # noqa: PLC0415
        AskError,
        ClusterCrossSlotError,
        ClusterDownError,
        ReadOnlyError,
        ResponseError,
        TryAgainError,
    )

    # A server that is a replica, or in a cluster. MOVED is an AskError, MASTERDOWN a ClusterDownError.
    if isinstance(exc, (ReadOnlyError, AskError, ClusterDownError, ClusterCrossSlotError, TryAgainError)):
        return True
    return isinstance(exc, ResponseError) and bool(_UNUSABLE_CODE.search(str(exc)))


def is_missing_script(exc: object) -> bool:
    """Tell whether Redis does not know the script of an EVALSHA: it has been started since the script was loaded."""
    from redis.exceptions import NoScriptError  # noqa: PLC0415

    return isinstance(exc, NoScriptError)


_REJECTIONS = {
    "OutOfMemoryError": "the memory of Redis is full",
    "NoPermissionError": "Redis does not permit it",
    "MISCONF": "Redis cannot write to its disk",
    "WRONGTYPE": "something else stands in its place",
}
"""Why Redis rejects a request, in words for clients: those of Redis name commands, scripts and keys.

Some errors have a class in redis-py, others only the first word of Redis' text.
"""


def _public_reason(exc: BaseException) -> str:
    first_word = str(exc).partition(" ")[0]
    found = (text for key, text in _REJECTIONS.items() if key in (first_word, type(exc).__name__))
    return next(found, "Redis refuses it")
