"""The errors of redis-py, each turned into a RedisUnusableError that says in words why Redis cannot be used."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from wsd.worker.contract.errors import WsdError
from wsd.worker.contract.redis_address import SENTINEL_PORT, shown
from wsd.worker.contract.sentinels.connection import SentinelError


class RedisUnusableError(WsdError):
    """Redis does not answer, or it answers that it cannot or will not do what the supervisor asks for.

    The text of the error is Redis' own, for logs. The attributes say what it means:

    - `summary`: the problem in a few words;
    - `has_answered`: False when no answer came. Any answer, also a refusal, shows that Redis does not hang;
    - `stores_nothing`: Redis serves the workers, but its disk or its memory is full, and it stores nothing more;
    - `is_auth_error`: the user, the password or a permission is missing. Waiting does not help;
    - `wrong_server`: why this server cannot be the Redis of a cluster, or None. Waiting does not help, either.
    """

    def __init__(
        self,
        text: str,
        *,
        summary: str = "Redis refuses us",
        has_answered: bool = True,
        stores_nothing: bool = False,
        is_auth_error: bool = False,
        wrong_server: str | None = None,
    ) -> None:
        super().__init__(text)
        self.summary = summary
        self.has_answered = has_answered
        self.stores_nothing = stores_nothing
        self.is_auth_error = is_auth_error
        self.wrong_server = wrong_server


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn what redis-py raises in this block into a RedisUnusableError, and end the block when it is cancelled.

    redis-py sends with asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes while the send
    completes. A task that went on after it would leave the code that cancelled it waiting forever. The worker's
    `redis_client` does the same for its own errors; the supervisor may import only the contract from there.
    """
    task = asyncio.current_task()
    cancellations = task.cancelling() if task is not None else 0
    failure = None
    try:
        yield
    except (RedisError, SentinelError, OSError) as exc:  # TimeoutError is an OSError
        failure = exc
    if task is not None and task.cancelling() > cancellations:
        raise asyncio.CancelledError
    if failure is not None:
        raise unusable(failure) from failure


def unusable(exc: Exception) -> RedisUnusableError:
    """Say what an error of redis-py means, or a SentinelError, which redis-py wraps in an error of its own."""
    text = str(exc) or type(exc).__name__
    sentinels = exc if isinstance(exc, SentinelError) else exc.__cause__
    if isinstance(sentinels, SentinelError):
        return _of_sentinels(sentinels)
    problem = _wrong_server(exc)
    if problem is None and not _is_answer(exc):
        return RedisUnusableError(text, summary="Redis does not answer", has_answered=False)
    code = _code_of(exc)
    summary = TROUBLES.get(code, "Redis refuses us")
    if code == "MISCONF" and "No space left" in text:
        summary = "Redis refuses to write: its disk is full"
    return RedisUnusableError(
        text,
        summary=summary,
        stores_nothing=code in ("MISCONF", "OOM"),
        is_auth_error=isinstance(exc, AuthenticationError | AuthorizationError)
        or code in ("NOAUTH", "WRONGPASS", "NOPERM"),
        wrong_server=problem,
    )


def _of_sentinels(error: SentinelError) -> RedisUnusableError:
    if error.known is not None:
        return RedisUnusableError(
            str(error), summary="the Sentinels do not know the primary", wrong_server=f"names no primary: {error}"
        )
    if error.refused:
        summary = "a Sentinel refuses us: redis.sentinel_username or redis.sentinel_password is missing or wrong"
        return RedisUnusableError(str(error), summary=summary, is_auth_error=True)
    return RedisUnusableError(str(error), summary="no Sentinel names a primary", has_answered=False)


def role_problem(info: Mapping[str, Any], url: str = "") -> str | None:
    """Say why a server cannot be the Redis of a cluster, or None.

    `info` is its INFO, of the sections server and replication, and sentinel for a Sentinel. `url` leads to it.
    """
    mode = server_mode(info)
    if mode == "cluster":
        return "leads to a Redis Cluster, which wsd does not support: name a single Redis or Valkey"
    if mode == "sentinel":
        return f"leads to a Sentinel: name the primary that it watches, as {_sentinel_url(info, url)}"
    if info.get("role") in ("slave", "replica"):
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        return f"leads to a replica, which stores nothing: name its primary, {primary}"
    return None


def server_mode(info: Mapping[str, Any]) -> str:
    """Return `standalone`, `cluster` or `sentinel`, given the section server of INFO. Valkey has a name of its own."""
    return str(info.get("redis_mode") or info.get("server_mode") or "standalone")


def _sentinel_url(info: Mapping[str, Any], url: str) -> str:
    """Return the URL to use in place of one that leads to a Sentinel, without its password: that may be another one."""
    names = [value["name"] for key, value in info.items() if re.fullmatch("master[0-9]+", key) and "name" in value]
    try:
        parts = urlsplit(url)
        place = shown((parts.hostname or "HOST", parts.port or SENTINEL_PORT))
    except ValueError:
        place = "HOST:PORT"
    scheme = "rediss" if url.startswith("rediss:") else "redis"
    return " or ".join(f"{scheme}+sentinel://{place}/{name}" for name in names or ["NAME"])


def _wrong_server(exc: Exception) -> str | None:
    """Do the same as `role_problem`, given an error answer: a Redis user may lack the permission for INFO."""
    if isinstance(exc, ReadOnlyError):
        return "leads to a replica, which stores nothing: name its primary"
    if isinstance(exc, AskError | ClusterDownError | ClusterCrossSlotError):  # MOVED is an AskError
        return role_problem({"redis_mode": "cluster"})
    return None


def _is_answer(exc: Exception) -> bool:
    # redis-py counts some answers as errors of the connection.
    answers = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
    return isinstance(exc, answers) or "max number of clients" in str(exc)


TROUBLES = {
    "MISCONF": "Redis refuses to write: it cannot write to its disk",
    "OOM": "Redis refuses to write: its memory is full",
    "READONLY": "Redis refuses to write: it is a replica",
    "NOREPLICAS": "Redis refuses to write: it has too few replicas",
    "LOADING": "Redis loads its data",
    "BUSY": "Redis is busy with a script",
    "MASTERDOWN": "Redis is a replica without its primary",
    "NOAUTH": "Redis refuses us: the user or the password is missing or wrong",
    "WRONGPASS": "Redis refuses us: the user or the password is missing or wrong",
    "NOPERM": "Redis refuses us: the user lacks a permission",
}
"""What an error answer means, by its first word."""

# Redis reports an error inside a script, and redis-py one inside a pipeline, within a sentence of their own.
_CODE = re.compile(rf"(?:^|caused error: (?:\(['\"])?|@user_script.*: -?)({'|'.join(TROUBLES)})\b")

# redis-py removes the first word from the text of errors that it has a class for.
_CODE_OF = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    NoPermissionError: "NOPERM",
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
}


def _code_of(exc: Exception) -> str:
    """Return the first word of an error answer if TROUBLES knows it, otherwise an empty string."""
    found = _CODE.search(str(exc))
    return found[1] if found else _CODE_OF.get(type(exc), "")
