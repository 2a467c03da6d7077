"""Publishes messages to Redis for a process that is no worker: the script of the workers, and the same keys."""

import secrets
from collections.abc import Sequence
from typing import Any

from wsd.worker.broker.history import IDEMPOTENCY_SECONDS
from wsd.worker.broker.history_scripts import APPEND_SCRIPT, APPEND_SHA, PUBLISH_ONCE_SCRIPT, PUBLISH_ONCE_SHA
from wsd.worker.broker.message_format import NO_HISTORY
from wsd.worker.broker.redis_history import append_arguments, archive_marks
from wsd.worker.contract.redis_keys import ARCHIVE_KEY, channel_key, idempotency_key
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.redis_client import Redis, is_missing_script, redis_error, redis_errors
from wsd.worker.relay.rows import Publication


class RedisSender:
    """Sends messages to one Redis, each of them once: a message that Redis knows by its key is not sent again."""

    def __init__(self, client: Redis, timeout: float) -> None:
        """`timeout` is how many seconds a pipeline may take."""
        self._client = client
        self._timeout = timeout
        self._origin = secrets.token_hex(6).encode()
        self._sent = 0

    async def send(self, batch: Sequence[Publication]) -> list[RedisUnavailableError | None]:
        """Send messages in their order. Return for each None, or the error with which Redis rejects this one.

        Raises RedisUnavailableError if Redis is away. Any of the messages may have been sent then.
        """
        questions = [self._question(publication) for publication in batch]
        marks = archive_marks(each.channel for each in batch if each.retention.size and each.retention.archived)
        async with redis_errors(self._timeout):
            if marks:  # before the messages are stored, so that no message is stored without a mark
                await self._client.zadd(ARCHIVE_KEY, marks)
            answers = await self._ask(questions)
            if any(isinstance(answer, Exception) and is_missing_script(answer) for answer in answers):
                # A server that has just started knows none of the scripts. Those that it took already know their keys.
                await self._client.script_load(APPEND_SCRIPT)
                await self._client.script_load(PUBLISH_ONCE_SCRIPT)
                answers = await self._ask(questions)
        outcomes = [redis_error(answer) if isinstance(answer, Exception) else None for answer in answers]
        for error in outcomes:
            if error is not None and not error.rejected:
                raise error
        return outcomes

    async def forget(self, batch: Sequence[Publication]) -> None:
        """Let Redis forget the keys of messages soon, now that their rows are deleted.

        A key is kept for as long as one that came over HTTP: another relay may have read the row shortly before.

        Raises RedisUnavailableError.
        """
        keys = [idempotency_key(each.channel, each.retention.idempotency_key) for each in batch]
        async with redis_errors(self._timeout):
            await self._ask([("EXPIRE", key, IDEMPOTENCY_SECONDS) for key in keys])

    def _question(self, publication: Publication) -> tuple[Any, ...]:
        self._sent += 1
        channel, retention = channel_key(publication.channel), publication.retention
        message = b"%s %d %s" % (self._origin, self._sent, publication.payload)
        if retention.size:
            return ("EVALSHA", APPEND_SHA, *append_arguments(channel, message, retention))
        key = idempotency_key(publication.channel, retention.idempotency_key)
        text = NO_HISTORY + b" " + message
        return ("EVALSHA", PUBLISH_ONCE_SHA, 1, key, text, channel, retention.idempotency_seconds)

    async def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers
