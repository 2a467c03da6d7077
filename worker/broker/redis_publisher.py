"""The sending half of a worker's traffic with one Redis."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from msgspec import structs

from wsd.worker.background.containment import report
from wsd.worker.broker.history import StoredAt
from wsd.worker.broker.history_scripts import APPEND_SCRIPT, APPEND_SHA
from wsd.worker.broker.message_broker import resolve_into
from wsd.worker.broker.redis_history import FOREIGN_POSITION, append_arguments, archive_marks, parse_stored
from wsd.worker.broker.spool import Outgoing
from wsd.worker.contract.redis_keys import ARCHIVE_KEY, channel_of
from wsd.worker.errors import RedisFailure, RedisUnavailableError
from wsd.worker.redis_client import Redis, is_missing_script, redis_error, redis_errors
from wsd.worker.wire.position import Position

PIPELINE_MESSAGES = 500
"""The maximum number of messages in one pipeline."""

RECENT_SECONDS = 1.0
"""For this long before the last sign of life of a Redis, what it took counts as just sent."""

RECENT_MESSAGES = 500
RECENT_BYTES = 1_000_000
"""The limits for the messages that are remembered for `RedisPublisher.just_sent`."""

OnSent = Callable[[StoredAt | RedisUnavailableError | None], None]
"""Called with the outcome of a message.

The outcome is None for a message of a channel without a history, and where this server keeps no histories.
"""


class _Sending:
    """A message that is being sent."""

    __slots__ = ("on_sent", "outgoing")

    def __init__(self, outgoing: Outgoing, on_sent: OnSent) -> None:
        self.outgoing = outgoing
        self.on_sent: OnSent | None = on_sent  # None once it was called

    def resolve(self, outcome: StoredAt | RedisUnavailableError | None) -> None:
        """Report the outcome, unless that was done already. The publisher goes on, whatever the callback does."""
        on_sent, self.on_sent = self.on_sent, None
        if on_sent is not None:
            try:  # the plain form of a Containment: this is called for every message
                on_sent(outcome)
            except Exception as exc:  # noqa: BLE001 - of whatever kind
                report("publisher: telling of a sent message", exc)


class RedisPublisher:
    """Sends messages to one Redis, in order. Messages that wait at the same time share a pipeline."""

    def __init__(self, client: Redis, timeout: float, *, stores: bool) -> None:
        """Prepare to send; nothing is sent before `send_waiting` runs.

        `timeout` is how many seconds a pipeline may take. Without `stores` this server keeps no histories, and a
        message of a channel with a history is only published.
        """
        self._client = client
        self._timeout = timeout
        self._stores = stores
        self._unsent: deque[_Sending] = deque()
        self._on_the_way: list[_Sending] = []
        self._wake = asyncio.Event()
        self._answered_at = 0.0
        self._recent: deque[tuple[float, Outgoing, Position | None]] = deque()
        self._recent_bytes = 0
        self._unmarked: set[str] = set()  # channels that Redis refused to mark

    async def send_waiting(self, on_failed: Callable[[str], None]) -> None:
        """Send the messages that wait, and those that come, until cancelled.

        `on_failed` is called with the reason whenever Redis did not answer a pipeline, or cannot be used.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent:
                batch = [self._unsent.popleft() for _ in range(min(PIPELINE_MESSAGES, len(self._unsent)))]
                self._on_the_way = batch
                await self._send(batch, on_failed)
                self._on_the_way = []

    def send(self, outgoing: Outgoing, on_sent: OnSent) -> None:
        """Send a message after those of earlier calls. Does not block.

        `on_sent` is called exactly once with the outcome. If Redis does not answer, or `give_up` is called meanwhile,
        the outcome is an error that is not `rejected`: the message may have been sent all the same.
        """
        self._unsent.append(_Sending(outgoing, on_sent))
        self._wake.set()

    async def publish(self, outgoing: Outgoing) -> StoredAt | None:
        """Send a message and wait for the outcome.

        Raises RedisUnavailableError.
        """
        answer: asyncio.Future[StoredAt | None] = asyncio.get_running_loop().create_future()
        self.send(outgoing, resolve_into(answer))
        return await answer

    async def publish_all(self, batch: Iterable[Outgoing]) -> list[StoredAt | RedisUnavailableError | None]:
        """Send messages and return the outcome of each; an error there says that Redis rejected this one message.

        Raises RedisUnavailableError if Redis is away.
        """
        outcomes: list[StoredAt | RedisUnavailableError | None] = []
        for outcome in await asyncio.gather(*map(self.publish, batch), return_exceptions=True):
            if isinstance(outcome, RedisUnavailableError) and outcome.rejected:
                outcomes.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                outcomes.append(outcome)
        return outcomes

    def just_sent(self, received_at: float) -> list[Outgoing]:
        """Return the messages that the server took shortly before its last sign of life.

        The server may have stopped before all subscribers had them. `received_at` is when a message was last received
        from it, by the monotonic clock.
        """
        alive_until = max(self._answered_at, received_at)
        return [
            structs.replace(outgoing, position=position)
            for at, outgoing, position in self._recent
            if at >= alive_until - RECENT_SECONDS
        ]

    def give_up(self, reason: str) -> None:
        """Report a failure for every message that has no answer yet, so that each finds another way."""
        waiting = [*self._on_the_way, *self._unsent]
        self._unsent.clear()
        for sending in waiting:
            sending.resolve(RedisUnavailableError(reason))

    async def _send(self, batch: list[_Sending], on_failed: Callable[[str], None]) -> None:
        try:
            async with redis_errors(self._timeout):
                answers = await self._execute([sending.outgoing for sending in batch])
                failed = [n for n, answer in enumerate(answers) if isinstance(answer, Exception)]
                if failed and (unknown := [n for n in failed if is_missing_script(answers[n])]):
                    # A server that has just started. All messages for the script failed alike, so the order holds.
                    await self._client.script_load(APPEND_SCRIPT)
                    again = await self._execute([batch[n].outgoing for n in unknown])
                    for n, answer in zip(unknown, again, strict=True):
                        answers[n] = answer
        except RedisUnavailableError as exc:
            reason = str(exc)
            if any(sending.on_sent is not None for sending in batch):
                on_failed(reason)
            self.give_up(reason)
            return
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            report("publisher", exc)
            await self._send_one_by_one(batch, on_failed)
            return
        self._answered_at = time.monotonic()
        if (unusable := self._resolve(batch, answers)) is not None:
            on_failed(str(unusable))
            self.give_up(str(unusable))

    def _resolve(self, batch: list[_Sending], answers: list[object]) -> RedisUnavailableError | None:
        """Report the outcome of each message that Redis took or rejected.

        Returns an error if Redis answered that it cannot be used. The messages with that answer wait for `give_up`.
        """
        unusable: RedisUnavailableError | None = None
        for sending, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                error = redis_error(answer)
                if error.unusable:
                    unusable = error
                else:
                    sending.resolve(error)
                continue
            try:
                stored = parse_stored(answer) if isinstance(answer, bytes) else None
            except ValueError:
                error = RedisUnavailableError(
                    FOREIGN_POSITION, RedisFailure.REJECTED, public_reason="something else stands in its place"
                )
                sending.resolve(error)
                continue
            self._remember(sending.outgoing, stored)
            sending.resolve(stored)
        return unusable

    async def _send_one_by_one(self, batch: list[_Sending], on_failed: Callable[[str], None]) -> None:
        """Send the messages of a pipeline that raised by themselves, so that only the one that cannot be sent fails.

        A message that Redis took already has its number there, so that it is not stored twice.
        """
        if len(batch) == 1:
            batch[0].resolve(RedisUnavailableError("the message cannot be sent", RedisFailure.REJECTED))
            return
        for sending in batch:
            await self._send([sending], on_failed)

    def _remember(self, outgoing: Outgoing, stored: StoredAt | None) -> None:
        position, is_new = stored or (None, True)
        if not is_new or outgoing.number == 0:  # a probe
            return
        self._recent.append((self._answered_at, outgoing, position))
        self._recent_bytes += len(outgoing.message)
        while len(self._recent) > RECENT_MESSAGES or self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popleft()[1].message)

    async def _execute(self, batch: list[Outgoing]) -> list[object]:
        marks = self._marks(batch) if self._stores else {}
        async with self._client.pipeline(transaction=False) as pipe:
            if marks:
                pipe.zadd(ARCHIVE_KEY, marks)
            for outgoing in batch:
                if outgoing.retention is not None and self._stores:
                    arguments = append_arguments(outgoing.channel, outgoing.message, outgoing.retention)
                    pipe.evalsha(APPEND_SHA, *arguments)
                else:
                    pipe.publish(outgoing.channel, outgoing.text)
            answers: list[object] = await pipe.execute(raise_on_error=False)
        if not marks:
            return answers
        self._unmarked = set(marks) if isinstance(answers[0], Exception) else set()
        return answers[1:]

    def _marks(self, batch: list[Outgoing]) -> dict[str, int]:
        """Return the archived channels of a batch, and those that Redis refused to mark before, with the time.

        The marks are set before the messages are stored, so that no message is stored without one.
        """
        archived = {each.channel for each in batch if each.retention is not None and each.retention.archived}
        return archive_marks(map(channel_of, archived), self._unmarked) if archived or self._unmarked else {}
