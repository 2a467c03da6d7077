"""The histories that one Redis keeps: a stream for each channel, and a hash with the epoch and the top offset.

The ids of the stream's entries are the offsets. One script does all of a publish, so that the order in the stream is
the order on the wire, and a message is either stored and sent, or neither. The broker that sends numbers its messages.
A number that is not above its last one in a channel names a message that an earlier attempt stored, whose answer was
lost (as with Kafka's idempotent producer). All keys of a channel share a hash tag, and so a server of a Redis Cluster.
"""

import time
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from wsd.worker.broker.history import (
    EMPTY_SECONDS,
    PAGE_BYTES,
    Entry,
    HistoryQuery,
    Page,
    Retention,
    StoredAt,
    epoch_seconds,
    new_epoch,
    page_of,
)
from wsd.worker.broker.history_scripts import READ_SCRIPT, READ_SHA, RENEW_SCRIPT
from wsd.worker.broker.message_format import parse_message
from wsd.worker.contract.redis_keys import channel_of, history_key, history_meta_key, idempotency_key
from wsd.worker.redis_client import Redis, is_missing_script, redis_error, redis_errors
from wsd.worker.wire.channel_names import BROADCAST, USER_PREFIX
from wsd.worker.wire.position import NOWHERE, Position

FOREIGN = b"foreign"
"""The origin of an entry that no worker wrote."""

FOREIGN_POSITION = "WRONGTYPE the position of a history is none that a worker wrote"


class RedisHistory:
    """Reads the histories that one Redis keeps."""

    def __init__(self, client: Redis, timeout: float) -> None:
        """`timeout` is how many seconds one call may take."""
        self._client = client
        self._timeout = timeout

    async def read(self, queries: Sequence[HistoryQuery]) -> list[Page]:
        """Read pages of histories in one round trip.

        A history that cannot be read has a page with a `problem`, and the other pages are read all the same.

        Raises RedisUnavailableError if Redis is away.
        """
        arguments = [read_arguments(query) for query in queries]
        async with redis_errors(self._timeout):
            answers = await self._ask(arguments)
            if any(isinstance(answer, Exception) and is_missing_script(answer) for answer in answers):
                await self._client.script_load(READ_SCRIPT)
                answers = await self._ask(arguments)
        return [self._page(answer, query.max_bytes) for answer, query in zip(answers, queries, strict=True)]

    async def renew_epoch(self, channel: str, epoch: str) -> None:
        """End an epoch, if it is still the channel's epoch, since messages of it were lost.

        Raises RedisUnavailableError.
        """
        async with redis_errors(self._timeout):
            await self._client.eval(RENEW_SCRIPT, 1, history_meta_key(channel_of(channel)), epoch, new_epoch())

    async def delete(self, channel: str, up_to: int | None = None) -> None:
        """Delete the entries of a channel, or those up to an offset. The channel's offsets go on.

        Raises RedisUnavailableError.
        """
        key = history_key(channel_of(channel))
        async with redis_errors(self._timeout):
            if up_to is None:
                await self._client.delete(key)
            else:
                await self._client.xtrim(key, minid=f"{up_to + 1}-0", approximate=False)

    async def _ask(self, questions: Iterable[list[Any]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for arguments in questions:
                pipe.evalsha(READ_SHA, *arguments)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers

    @staticmethod
    def _page(answer: Any, max_bytes: int) -> Page:
        if isinstance(answer, Exception):
            error = redis_error(answer)
            if error.rejected:
                return Page(NOWHERE, problem=str(error))
            raise error
        try:
            return parse_page(answer, max_bytes)
        except ValueError:
            return Page(NOWHERE, problem=FOREIGN_POSITION)


def append_arguments(channel: str, message: bytes, retention: Retention) -> list[Any]:
    """Return the arguments of EVALSHA that follow the hash of APPEND_SCRIPT."""
    name = channel_of(channel)
    keys = [history_meta_key(name), history_key(name)]
    if retention.idempotency_key:
        keys.append(idempotency_key(name, retention.idempotency_key))
    ttl_ms = int(retention.ttl * 1000)
    epoch_ms = int(epoch_seconds(retention.ttl, archived=retention.archived) * 1000)
    lifetimes = (ttl_ms, int(time.time()), epoch_ms, retention.idempotency_seconds)
    return [len(keys), *keys, message, channel, new_epoch(), retention.size, *lifetimes]


def archive_marks(*channels: Iterable[str]) -> dict[str, int]:
    """Return the scores in ARCHIVE_KEY of channels that get messages now."""
    return dict.fromkeys(chain.from_iterable(channels), time.time_ns() // 1000)


def read_arguments(query: HistoryQuery) -> list[Any]:
    """Return the arguments of EVALSHA that follow the hash of READ_SCRIPT."""
    name = channel_of(query.channel)
    keys = [history_meta_key(name), history_key(name)]
    return [
        len(keys),
        *keys,
        new_epoch(),
        int(epoch_seconds(query.retention.ttl, archived=query.retention.archived) * 1000),
        "" if query.since is None else query.since,
        query.count,
        int(query.reverse),
        int(_empty_seconds(name, query.retention) * 1000) if query.follows else "",
        query.max_bytes,
    ]


def _empty_seconds(name: str, retention: Retention) -> float:
    """Return how many seconds an epoch without messages is kept.

    The time is short for channels that clients name: they can do so as fast as they can subscribe.
    """
    is_named_by_client = name != BROADCAST and not name.startswith(USER_PREFIX)
    return EMPTY_SECONDS if is_named_by_client else epoch_seconds(retention.ttl)


def parse_stored(answer: bytes) -> StoredAt:
    """Parse the answer of the append script: the position of the message, and whether the message is new there.

    Raises ValueError.
    """
    return Position.parse(answer.removeprefix(b"=")), not answer.startswith(b"=")


def parse_page(answer: Any, max_bytes: int = PAGE_BYTES) -> Page:
    """Parse the answer of the read script, into a page of at most `max_bytes` of payloads.

    Raises ValueError for a position that no worker wrote.
    """
    top, entries, more = answer
    position = Position.parse(top)
    found = (_entry(offset_id, fields, position.epoch) for offset_id, fields in entries)
    return page_of(position, found, max_bytes, more=bool(more))


def _entry(offset_id: bytes, fields: list[bytes], epoch: str) -> Entry:
    """Parse an entry. One that no worker wrote gets an empty payload, so that the entries around it can be read."""
    offset = int(offset_id.partition(b"-")[0])
    try:
        origin, number, payload = parse_message(fields[1])
    except ValueError:
        origin, number, payload = FOREIGN, offset, b""
    return Entry(origin, number, payload, Position(offset, epoch))
