"""One Redis as a way for messages: one connection listens, reconnecting for ever; what is to be published at one time
shares a pipeline on another."""

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import structs
from redis.exceptions import NoScriptError, ResponseError

from wsd.worker.broker.history import HistoryQuery, Page, new_epoch
from wsd.worker.broker.message_broker import Receive, resolve_into
from wsd.worker.broker.redis_history import (
    APPEND_SCRIPT,
    APPEND_SHA,
    READ_SCRIPT,
    READ_SHA,
    RENEW_SCRIPT,
    append_arguments,
    parse_page,
    parse_stored,
    read_arguments,
)
from wsd.worker.broker.spool import Outgoing
from wsd.worker.containment import Containment, report, run_repeatedly
from wsd.worker.contract.redis_keys import channel_of, history_meta_key, probe_key
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import LOST, Redis, RedisError, is_refusal, is_unusable
from wsd.worker.waiting import raise_if_cancelled
from wsd.worker.wire.position import NOWHERE, Position

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

logger = get_logger(__name__)

RETRY_FIRST_SECONDS = 0.25
RETRY_MAX_SECONDS = 1.0
"""Full jitter up to this: with the breaker's pause, a Redis that is back is in use again within 2 s."""

SETTLE_SECONDS = 2.0

PIPELINE_MESSAGES = 500

RECENT_SECONDS = 1.0
RECENT_MESSAGES = 500
RECENT_BYTES = 1_000_000
"""How much of what Redis took is remembered, see `just_sent`."""

FOREIGN_POSITION = "WRONGTYPE the position of a history is none that a worker wrote"

PROBE_MS = 1000
"""How long what `check_writes` writes is kept."""

TOKEN = b"- hear "
"""What a worker sends to itself to prove that it hears begins with this, and no message does."""


TELLING = Containment("publisher: telling of a sent message")
HEARING = Containment("listener: a message that was heard")

StoredAt = tuple[Position, bool]
"""The position, and whether the message is new there."""

Told = Callable[[StoredAt | Exception | None], None]
"""Called with what became of a message: its position, if it was to be kept, or one of LOST."""


class _Sending:
    __slots__ = ("outgoing", "told")

    def __init__(self, outgoing: Outgoing, told: Told) -> None:
        self.outgoing = outgoing
        self.told: Told | None = told  # None once it was called

    def tell(self, result: StoredAt | Exception | None) -> None:
        """Tell what became of the message. The publisher goes on, whatever its sender does with that."""
        told, self.told = self.told, None
        if told is not None:
            with TELLING:
                told(result)


class RedisPubSub:
    """Hears `own_channel` always, so that the connection is never without a subscription.

    `listener` must have no read timeout: a quiet minute is not a broken connection, `proves_hearing` tells.
    """

    def __init__(
        self, name: str, publisher: Redis, listener: Redis, own_channel: str, timeout: float, *, stores: bool = True
    ) -> None:
        """`name` is for the log; `timeout`: seconds that a publish or a subscription may take; `stores`: whether
        histories are kept here, else what is to be kept is only told."""
        self.name = name
        self.hearing = False  # connected, and all that was subscribed before is again
        self.heard_at = 0.0  # when anything came, by the monotonic clock
        self.connections = 0
        self.on_lost: Callable[[str], None] = lambda reason: None  # called when it hears no more
        self.on_failed: Callable[[str], None] = lambda reason: None  # called when what was sent was not answered
        self.on_hearing: Callable[[], None] = lambda: None  # called at every connection, once all is subscribed
        self._publisher = publisher
        self._listener = listener
        self._own_channel = own_channel
        self._timeout = timeout
        self._stores = stores
        self._channels = {own_channel}
        self._sent: set[str] = set()  # told to the present connection
        self._confirmed: set[str] = set()  # heard back from it
        self._confirmations: dict[str, asyncio.Event] = {}
        self._telling = asyncio.Lock()
        self._pubsub: PubSub | None = None
        self._settled = asyncio.Event()
        self._tokens: dict[bytes, asyncio.Event] = {}
        self._unsent: deque[_Sending] = deque()
        self._on_the_way: list[_Sending] = []
        self._wake = asyncio.Event()
        self._answered_at = 0.0
        self._recent: deque[tuple[float, Outgoing, Position | None]] = deque()
        self._recent_bytes = 0

    async def run(self, receive: Receive) -> None:
        """Hear and publish messages until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                hear = run_repeatedly(lambda: self._hear_for_ever(receive), f"listener of {self.name}")
                tasks.create_task(hear, name="listener")
                tasks.create_task(run_repeatedly(self._send_for_ever, f"publisher to {self.name}"), name="publisher")
        finally:
            self._forget_connection()
            self.give_up("the worker has stopped")  # nobody would send what waits, nor what comes

    async def _hear_for_ever(self, receive: Receive) -> None:
        attempt = 0
        while True:
            try:
                await self._hear(receive)
            except LOST as exc:
                raise_if_cancelled()
                attempt = 0 if self.hearing else attempt
                self._forget_connection()
                # What waits in the pool was connected to the same dead server.
                await self._publisher.connection_pool.disconnect(inuse_connections=False)
                if attempt == 0:
                    logger.warning("not hearing %s: %s", self.name, exc)
                self.on_lost(str(exc) or type(exc).__name__)
            except Exception as exc:  # noqa: BLE001 - of whatever kind
                report(f"listener of {self.name}", exc)
                self._forget_connection()
                self.on_lost("a fault in the listener")
            ceiling = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2**attempt)
            attempt = min(attempt + 1, 8)
            await asyncio.sleep(random.uniform(0, ceiling))

    async def wait_until_ready(self) -> None:
        """Wait until it hears, or has seen that it cannot for now."""
        with suppress(TimeoutError):  # a server that takes the connection and says nothing
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._settled.wait()

    async def subscribe(self, channels: Collection[str], *, confirm: bool) -> None:
        """With `confirm` they are heard from its return on; where there is no connection, once there is one."""
        self._channels.update(channels)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._follow(channels)
                for channel in channels if confirm else ():
                    if channel in self._sent and channel not in self._confirmed:
                        await self._confirmations.setdefault(channel, asyncio.Event()).wait()

    async def unsubscribe(self, channels: Collection[str]) -> None:
        self._channels.difference_update(channels)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._follow(channels)

    def send(self, outgoing: Outgoing, told: Told) -> None:
        """In the order of the calls. Where it fails, `on_failed` is called first; `told` also when `give_up` is called
        meanwhile: the message may have been sent all the same."""
        self._unsent.append(_Sending(outgoing, told))
        self._wake.set()

    async def publish(self, outgoing: Outgoing) -> StoredAt | None:
        """`send`, and wait for what is told. Raises one of LOST."""
        answer: asyncio.Future[StoredAt | None] = asyncio.get_running_loop().create_future()
        self.send(outgoing, resolve_into(answer))
        return await answer

    async def publish_all(self, batch: Iterable[Outgoing]) -> list[StoredAt | BaseException | None]:
        """What became of each, refusals among it. Raises one of LOST when Redis does not answer."""
        results = await asyncio.gather(*map(self.publish, batch), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not is_refusal(result):
                raise result
        return results

    def just_sent(self) -> list[Outgoing]:
        """What the server took shortly before its last sign of life. It may have stopped before all had it."""
        alive_until = max(self._answered_at, self.heard_at)
        return [
            structs.replace(outgoing, position=position)
            for at, outgoing, position in self._recent
            if at >= alive_until - RECENT_SECONDS
        ]

    def give_up(self, reason: str) -> None:
        """Tell all who wait for an answer now that there is none: each finds another way for its message."""
        waiting = [*self._on_the_way, *self._unsent]
        self._unsent.clear()
        for sending in waiting:
            sending.tell(RedisError(reason))

    async def _send_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent:
                batch = [self._unsent.popleft() for _ in range(min(PIPELINE_MESSAGES, len(self._unsent)))]
                self._on_the_way = batch
                await self._send(batch)
                self._on_the_way = []

    async def _send(self, batch: list["_Sending"]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                results = await self._execute([sending.outgoing for sending in batch])
                if unknown := [n for n, result in enumerate(results) if isinstance(result, NoScriptError)]:
                    # A server that has just started. All that were for the script failed alike: the order holds.
                    await self._publisher.script_load(APPEND_SCRIPT)
                    again = await self._execute([batch[n].outgoing for n in unknown])
                    for n, result in zip(unknown, again, strict=True):
                        results[n] = result
            raise_if_cancelled()
        except LOST as exc:
            raise_if_cancelled()
            reason = str(exc) or "no answer in time"
            if any(sending.told is not None for sending in batch):
                self.on_failed(reason)
            self.give_up(reason)
            return
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            report("publisher", exc)
            await self._send_one_by_one(batch)
            return
        self._answered_at = time.monotonic()
        unusable: Exception | None = None
        for sending, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                if is_unusable(result):
                    unusable = result
                else:
                    sending.tell(result)
                continue
            try:
                stored = parse_stored(result) if isinstance(result, bytes) else None
            except ValueError:
                sending.tell(ResponseError(FOREIGN_POSITION))
                continue
            self._remember(sending.outgoing, stored)
            sending.tell(stored)
        if unusable is not None:
            self.on_failed(str(unusable))
            self.give_up(str(unusable))

    async def _send_one_by_one(self, batch: list["_Sending"]) -> None:
        """Send the messages of a pipeline that raised by themselves, so that only the one that cannot be sent fails.

        A message that Redis took already has its number there, so that it is not stored twice.
        """
        if len(batch) == 1:
            batch[0].tell(ResponseError("the message cannot be sent"))
            return
        for sending in batch:
            await self._send([sending])

    def _remember(self, outgoing: Outgoing, stored: StoredAt | None) -> None:
        position, is_new = stored or (None, True)
        if not is_new or outgoing.number == 0:  # a hearing test
            return
        self._recent.append((self._answered_at, outgoing, position))
        self._recent_bytes += len(outgoing.message)
        while len(self._recent) > RECENT_MESSAGES or self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popleft()[1].message)

    async def _execute(self, batch: list[Outgoing]) -> list[object]:
        async with self._publisher.pipeline(transaction=False) as pipe:
            for outgoing in batch:
                if outgoing.keep is not None and self._stores:
                    pipe.evalsha(APPEND_SHA, *append_arguments(outgoing.channel, outgoing.message, outgoing.keep))
                else:
                    pipe.publish(outgoing.channel, outgoing.text)
            return await pipe.execute(raise_on_error=False)

    async def read(self, wanted: Iterable[HistoryQuery]) -> list[Page]:
        """Read pages of histories, in one round trip; a history that cannot be read keeps nobody from the others.

        Raises one of LOST where Redis cannot be used.
        """
        wanted = list(wanted)
        questions = [read_arguments(one) for one in wanted]
        async with asyncio.timeout(self._timeout):
            answers = await self._ask(questions)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                await self._publisher.script_load(READ_SCRIPT)
                answers = await self._ask(questions)
        return [self._page(answer, one) for answer, one in zip(answers, wanted, strict=True)]

    @staticmethod
    def _page(answer: Any, wanted: HistoryQuery) -> Page:
        """Raises what Redis answers where it cannot be used."""
        if isinstance(answer, ResponseError) and is_refusal(answer):
            return Page(NOWHERE, problem=str(answer))
        if isinstance(answer, Exception):
            raise answer
        try:
            return parse_page(answer, wanted.max_bytes)
        except ValueError:
            return Page(NOWHERE, problem=FOREIGN_POSITION)

    async def _ask(self, questions: Iterable[list[Any]]) -> list[Any]:
        async with self._publisher.pipeline(transaction=False) as pipe:
            for question in questions:
                pipe.evalsha(READ_SHA, *question)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers

    async def renew_epoch(self, channel: str, epoch: str) -> None:
        """End an epoch of which messages were lost. Raises one of LOST."""
        async with asyncio.timeout(self._timeout):
            await self._publisher.eval(RENEW_SCRIPT, 1, history_meta_key(channel_of(channel)), epoch, new_epoch())

    async def proves_hearing(self) -> bool:
        """Send a token to ourselves: whether it was heard. Raises one of LOST when it could not even be sent."""
        token = b"hear " + secrets.token_hex(8).encode()
        heard = self._tokens[b"- " + token] = asyncio.Event()
        try:
            await self.publish(Outgoing(0, self._own_channel, token))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await heard.wait()
            return heard.is_set()
        finally:
            del self._tokens[b"- " + token]

    async def check_writes(self) -> None:
        """Write something small: a replica takes what is published, but stores nothing, and hands it to few.

        Raises one of LOST, unless the server merely refuses (it is full, say): then it is there.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._publisher.set(probe_key(self._own_channel), b"", px=PROBE_MS)
        except RedisError as exc:
            raise_if_cancelled()
            if not is_refusal(exc):
                raise

    async def change_server(self) -> None:
        """Connect anew: the host name may lead to another server by now, as after a failover."""
        await self._publisher.connection_pool.disconnect(inuse_connections=False)
        await self.reconnect()

    async def count_hearers(self, channel: str) -> int:
        """How many connections are subscribed to a channel. Raises one of LOST."""
        async with asyncio.timeout(self._timeout):
            ((_, count),) = await self._publisher.pubsub_numsub(channel)
        return int(count)

    async def reconnect(self) -> None:
        """Give the listening connection up for a new one."""
        connection: Any = self._pubsub.connection if self._pubsub is not None else None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _follow(self, channels: Collection[str]) -> None:
        """Tell Redis what is wanted of channels by now. One at a time: the last word must be the last sent."""
        async with self._telling:
            pubsub = self._pubsub
            if pubsub is None:
                return
            new = [channel for channel in channels if channel in self._channels and channel not in self._sent]
            old = [channel for channel in channels if channel not in self._channels and channel in self._sent]
            with suppress(RedisError, OSError):  # the listening task sees the same broken connection and replaces it
                if new:
                    self._sent.update(new)
                    await pubsub.subscribe(*new)
                if old:
                    self._sent.difference_update(old)
                    self._confirmed.difference_update(old)
                    await pubsub.unsubscribe(*old)

    def _forget_connection(self) -> None:
        self.hearing = False
        self._pubsub = None
        self._sent.clear()
        self._confirmed.clear()
        self._settled.set()

    async def _hear(self, receive: Receive) -> None:
        async with self._listener.pubsub() as pubsub:
            async with self._telling:
                self._sent = set(self._channels)
                await pubsub.subscribe(*self._sent)
                self._pubsub = pubsub
            while True:
                message = await pubsub.get_message(timeout=None)
                if message is None:
                    continue
                self.heard_at = time.monotonic()
                channel = message["channel"].decode()
                if message["type"] == "message":
                    data: bytes = message["data"]
                    if not data.startswith(TOKEN):
                        with HEARING:
                            receive(channel, data)
                    elif (token := self._tokens.get(data)) is not None:
                        token.set()
                elif message["type"] == "subscribe":
                    self._confirm(channel)

    def _confirm(self, channel: str) -> None:
        if channel in self._sent:
            self._confirmed.add(channel)
        if (waiting := self._confirmations.pop(channel, None)) is not None:
            waiting.set()
        if not self.hearing and self._confirmed >= self._sent:
            self.hearing = True
            self.connections += 1
            self._settled.set()
            logger.info("hearing %d channels over %s", len(self._channels), self.name)
            self.on_hearing()
