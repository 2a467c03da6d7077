"""The load of `wsd chaos`: publishers and subscribers that reconnect whenever their connection is lost."""

import asyncio
import json
import random
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import cycle
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from wsd.client.channels import uids_of
from wsd.supervisor.chaos.verdict import Ledger
from wsd.supervisor.errors import CommandError

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before a client reconnects: a random time up to a limit, which doubles with each attempt."""

RETRY_SECONDS = 0.05
"""How long a publisher waits after it could not send: it may not have noticed yet that its connection is gone."""

ERROR_PAUSE_SECONDS = 0.2
"""How long a publisher waits before it publishes again after an error."""

CHECK_SECONDS = 0.2
"""How often a publisher that waits for an ack checks for errors and for the loss of its connection."""

KEPT_UIDS = 5000
"""How many uids of messages a subscriber remembers, to recognize a message that comes again."""

REFUSED = 1008
"""The close code of a server that will not have the client: it would say the same again (RFC 6455, 7.4.1)."""

JsonObject = dict[str, Any]


class ChaosClient:
    """One user, who reconnects and resumes the session whenever the connection is lost."""

    def __init__(self, urls: Sequence[str], user_id: str, ledger: Ledger) -> None:
        """`urls` are those of all nodes. Each connection goes to the next one, as through a load balancer."""
        self.user_id = user_id
        self.connected = asyncio.Event()
        self._urls = cycle(urls)
        self._ledger = ledger
        self._connection: ClientConnection | None = None
        self._token = ""
        self._lost_at: float | None = None

    async def run(self) -> None:
        """Stay connected until cancelled. Raises CommandError if the cluster refuses the client from the start."""
        attempt = 0
        while True:
            try:
                query = {"user_id": self.user_id} | ({"session": self._token} if self._token else {})
                async with connect(
                    f"{next(self._urls)}?{urlencode(query)}",
                    ping_interval=2,
                    ping_timeout=3,
                    open_timeout=5,
                    compression=None,
                ) as self._connection:
                    if self._token:
                        await self.send({"type": "resume", "since": self._since()})
                    try:
                        async for text in self._connection:
                            message = json.loads(text)
                            if message["type"] == "welcome":
                                attempt = 0
                                await self._welcomed(message)
                            else:
                                self._received(message)
                    except asyncio.CancelledError:
                        await self._connection.close()  # cleanly, which ends the session; `connect` would send 1011
                        raise
            except (OSError, WebSocketException, TimeoutError):
                connection = self._connection
                if connection is not None and connection.close_code == REFUSED and not self._token:
                    reason = connection.close_reason or "without a reason"
                    raise CommandError(
                        f"the cluster refuses the clients ({reason}): "
                        "it must serve the built-in hub, without authentication"
                    ) from None
            self.connected.clear()
            self._lost_at = self._lost_at or time.monotonic()
            await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt, 10))))
            attempt += 1

    async def send(self, message: JsonObject) -> None:
        """Send a message. Raises ConnectionError without a connection."""
        if self._connection is None:
            raise ConnectionError
        await self._connection.send(json.dumps(message))

    def drop(self) -> None:
        """Drop the connection without a close frame, as a failing network does."""
        if self._connection is not None:
            self._connection.transport.abort()

    def _since(self) -> dict[str, JsonObject]:
        """Return the position that was reached in each channel."""
        return {}

    async def _welcomed(self, message: JsonObject) -> None:
        self._token = message["resume_token"]
        if self._lost_at is not None:
            self._ledger.reconnects += 1
            self._ledger.resumed += message["resumed"]
            self._ledger.recoveries.append(time.monotonic() - self._lost_at)
            self._lost_at = None
        self.connected.set()

    def _received(self, message: JsonObject) -> None:
        pass


class Subscriber(ChaosClient):
    """A client that is subscribed to several channels, and reports each delivery, gap and hole to the ledger."""

    def __init__(self, urls: Sequence[str], user_id: str, ledger: Ledger, channels: Iterable[str]) -> None:
        super().__init__(urls, user_id, ledger)
        self.ready = asyncio.Event()  # subscribed to all
        self._positions: dict[str, JsonObject | None] = dict.fromkeys(channels)
        self._uids: OrderedDict[tuple[str, str], None] = OrderedDict()  # channel and uid of the latest messages

    def _since(self) -> dict[str, JsonObject]:
        return {channel: at for channel, at in self._positions.items() if at is not None}

    async def _welcomed(self, message: JsonObject) -> None:
        await super()._welcomed(message)
        known = message["channels"]
        for channel, at in self._positions.items():
            if channel in known:
                self._joined(channel, known[channel])
            else:
                since = {"since": at} if at is not None else {}
                await self.send({"type": "subscribe", "channel": channel, **since})

    def _joined(self, channel: str, state: JsonObject) -> None:
        """Note that a channel was joined.

        If recovery succeeded, the missed messages follow, and the position must stay where it is.
        """
        if not state.get("recovered", False) and "offset" in state:
            if self._positions[channel] is not None:
                self._ledger.told += 1
            self._positions[channel] = {"offset": state["offset"], "epoch": state["epoch"]}
        if all(at is not None for at in self._positions.values()):
            self.ready.set()

    def _received(self, message: JsonObject) -> None:
        channel = message.get("channel", "")
        if channel not in self._positions:
            return
        match message["type"]:
            case "subscribed":
                self._joined(channel, message)
            case "gap":
                self._ledger.told += 1
                self._positions[channel] = {"offset": message["offset"], "epoch": message["epoch"]}
            case "position":
                self._positions[channel] = {"offset": message["offset"], "epoch": message["epoch"]}
            case "message":
                if "offset" in message:
                    self._advance(channel, message)
                if not any((channel, uid) in self._uids for uid in uids_of(message["uid"])):
                    self._remember(channel, message["uid"])
                    self._ledger.deliver(self.user_id, message["from"]["user_id"], message["data"]["number"])

    def _advance(self, channel: str, message: JsonObject) -> None:
        at = self._positions[channel]
        expected = at["offset"] + 1 if at is not None and at["epoch"] == message["epoch"] else None
        if message["offset"] != expected:
            self._ledger.holes += 1
        self._positions[channel] = {"offset": message["offset"], "epoch": message["epoch"]}

    def _remember(self, channel: str, uid: str) -> None:
        self._uids[channel, uid] = None
        if len(self._uids) > KEPT_UIDS:
            self._uids.popitem(last=False)


class Publisher(ChaosClient):
    """A client that publishes numbered messages, one after the other.

    A message is sent again with the same idempotency key until the cluster acknowledges that it is stored.
    """

    def __init__(self, urls: Sequence[str], user_id: str, ledger: Ledger, channel: str, rate: float) -> None:
        """Prepare a publisher of at most `rate` messages per second."""
        super().__init__(urls, user_id, ledger)
        self.errors = 0
        self._channel = channel
        self._interval = 1 / rate
        self._acks: dict[int, asyncio.Event] = {}

    async def publish_messages(self) -> None:
        """Publish until cancelled."""
        number = 0
        while True:
            number += 1
            started = time.monotonic()
            await self._publish(number)
            now = time.monotonic()
            self._ledger.ack(self.user_id, number, now - started, now - self._ledger.began)
            await asyncio.sleep(max(0.0, started + self._interval - time.monotonic()))

    async def _publish(self, number: int) -> None:
        self._ledger.published += 1
        acked = self._acks[number] = asyncio.Event()
        request = {
            "type": "publish",
            "channel": self._channel,
            "data": {"number": number},
            "id": number,
            "idempotency_key": str(number),
        }
        while not acked.is_set():
            await self.connected.wait()
            try:
                await self.send(request)
                await self._answered(acked)
            except (OSError, WebSocketException):
                await asyncio.sleep(RETRY_SECONDS)
        del self._acks[number]

    async def _answered(self, acked: asyncio.Event) -> None:
        """Wait until the message is acked, or must be sent again: the connection was lost, or an error arrived."""
        connection = self._connection
        errors = self.errors
        while not acked.is_set() and connection is self._connection and self.connected.is_set():
            if self.errors > errors:
                await asyncio.sleep(ERROR_PAUSE_SECONDS)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await acked.wait()

    def _received(self, message: JsonObject) -> None:
        if message["type"] == "ack" and message.get("durable") and message["id"] in self._acks:
            self._acks[message["id"]].set()
        elif message["type"] == "error":
            self.errors += 1
