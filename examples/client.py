"""A client of the hub that loses no messages: it reconnects, resumes its session, and ignores duplicates.

    python client.py ws://127.0.0.1:8000/ws ann room:1

Needs only `pip install websockets`.
"""

import asyncio
import contextlib
import inspect
import json
import logging
import random
import secrets
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 20.0  # limits of the random pause before a new connection, in seconds
KEPT_UIDS = 5000  # uids that are remembered to recognize duplicates
KEYED_UID_LENGTH = 32  # length of a uid before its "-", if the message had an idempotency key
RETRIED = ("rate_limited", "byte_rate_limited", "not_stored", "unavailable")  # error codes

EXPIRED = 4401  # close code: the token has expired

Message = dict[str, Any]
Token = str | Callable[[], str | Awaitable[str]]


class RefusedError(Exception):
    """The hub answered with an error, or the client was closed before an answer came."""


class NoTokenError(Exception):
    """The application's token function failed."""


def uids_of(uid: str) -> tuple[str, ...]:
    """Return the uids that a message may have.

    The uid of a message with an idempotency key contains the minute in which it was sent, so a retry in the next minute
    gets another one.
    """
    name, _, minute = uid.rpartition("-")
    if len(name) != KEYED_UID_LENGTH:
        return (uid,)
    at = int(minute, 16)
    return uid, f"{name}-{at - 1:x}", f"{name}-{at + 1:x}"


class WsdClient:
    """A connection to the hub that outlives its WebSocket.

        async with WsdClient(url, "ann") as client:
            await client.subscribe("room:1")
            async for message in client:
                ...

    It yields messages as dicts, and `{"type": "gap", "channel": ..., "reason": ...}` where messages were lost.
    """

    def __init__(self, url: str, user_id: str = "", username: str = "", *, token: Token | None = None) -> None:
        """Create a client.

        `token` is needed if the server requires JSON Web Tokens. A function is called before each connection, so that
        an expired token is replaced. With a string, the client gives up when the token has expired.
        """
        self.welcome: Message = {}  # the latest welcome message
        self._url = url
        self._query = {"user_id": user_id, "username": username or user_id} if user_id else {}
        self._token = token
        self._connection: ClientConnection | None = None
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._positions: dict[str, Message] = {}  # by channel: offset and epoch of the last message
        self._channels: set[str] = set()
        self._uids: OrderedDict[tuple[str, str], None] = OrderedDict()  # channel and uid of the latest messages
        self._waiting: dict[int, tuple[Message, asyncio.Future[Message]]] = {}
        self._retrying: asyncio.Task[None] | None = None
        self._ended_with: int | None = None  # the close code, once the client has given up
        self._next_id = 1
        self._run_id = secrets.token_hex(4)  # makes idempotency keys unique among all clients

    async def __aenter__(self) -> "WsdClient":
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._connection is not None:
            await self._connection.close(1000)  # a clean close ends the session
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (message := await self._inbox.get()) is not None:
            yield message

    async def subscribe(self, channel: str) -> None:
        self._channels.add(channel)
        await self._ask({"type": "subscribe", "channel": channel})

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        self._positions.pop(channel, None)
        await self._ask({"type": "unsubscribe", "channel": channel})

    async def publish(self, channel: str, data: object) -> Message:
        """Publish a message, and return the ack once the message is stored.

        Until then it is sent again, but published only once. Raises RefusedError.
        """
        return await self._ask({"type": "publish", "channel": channel, "data": data, **self._key()})

    async def broadcast(self, data: object) -> Message:
        return await self._ask({"type": "broadcast", "data": data, **self._key()})

    async def direct(self, user_id: str, data: object) -> Message:
        return await self._ask({"type": "direct", "user_id": user_id, "data": data, **self._key()})

    def _key(self) -> Message:
        return {"idempotency_key": f"{self._run_id}-{self._next_id}"}

    async def _ask(self, request: Message) -> Message:
        if self._ended_with is not None:
            raise RefusedError(f"closed with {self._ended_with}")
        request_id = self._next_id
        self._next_id += 1
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = ({**request, "id": request_id}, answer)
        await self._transmit(request_id)
        return await answer

    async def _transmit(self, request_id: int) -> None:
        """Send a request if there is a connection. Otherwise it is sent after the next welcome."""
        if request_id in self._waiting and self._connection is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._connection.send(json.dumps(self._waiting[request_id][0]))

    async def _retry(self) -> None:
        await asyncio.sleep(1)
        for request_id in list(self._waiting):
            await self._transmit(request_id)

    async def _run(self) -> None:
        attempt = 0
        while True:
            resumed = self.welcome.get("resume_token", "")
            # URLs are logged, so they never contain the tokens.
            url = f"{self._url}?{urlencode({**self._query, **({'resume': 1} if resumed else {})})}"
            try:
                async with connect(url, subprotocols=await self._subprotocols()) as connection:
                    if resumed:
                        # Only subscribed channels: naming a position subscribes to its channel, and a message that
                        # arrived after an unsubscribe has left a position.
                        here = self._channels | {"broadcast", "direct"}
                        since = {channel: at for channel, at in self._positions.items() if channel in here}
                        resume = {"type": "resume", "token": resumed, "since": since}
                        await connection.send(json.dumps(resume))
                    async for text in connection:
                        message = json.loads(text)
                        if message["type"] == "welcome":
                            attempt = 0
                            self._connection = connection
                            await self._welcomed(message)
                        else:
                            self._receive(message)
                    code = connection.close_code or 1006
            except ConnectionClosed as exc:
                code = exc.rcvd.code if exc.rcvd is not None else 1006
            except (OSError, WebSocketException):
                code = 1006
            except NoTokenError as exc:
                logger.warning("%s; trying again", exc)
                code = 1006
            self._connection = None
            if code == 1009 and self._waiting:  # the largest request would be refused again
                largest = max(self._waiting, key=lambda request_id: len(json.dumps(self._waiting[request_id][0])))
                self._waiting.pop(largest)[1].set_exception(RefusedError("message too big"))
            if code in (1000, 1008) or 4500 <= code < 5000 or (code == EXPIRED and not callable(self._token)):
                break
            # Full jitter: the clients of a worker that has ended must not all reconnect at the same moment.
            await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt, 10))))
            attempt += 1
        self._ended_with = code
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RefusedError(f"closed with {code}"))
        self._inbox.put_nowait(None)

    async def _subprotocols(self) -> list[Subprotocol] | None:
        """Return the subprotocols that carry the token. Raises NoTokenError if there is none."""
        token = self._token
        if callable(token):
            try:
                found = token()
                token = await found if inspect.isawaitable(found) else found
            except Exception as exc:
                raise NoTokenError(f"no token: {exc}") from exc
        return [Subprotocol("wsd.bearer"), Subprotocol(token)] if token else None

    async def _welcomed(self, message: Message) -> None:
        self.welcome = message
        for channel, state in message["channels"].items():
            self._joined(channel, state)
        for channel in self._channels - message["channels"].keys():
            since = {"since": self._positions[channel]} if channel in self._positions else {}
            assert self._connection is not None
            await self._connection.send(json.dumps({"type": "subscribe", "channel": channel, **since}))
        for request_id in list(self._waiting):
            await self._transmit(request_id)

    def _joined(self, channel: str, state: Message) -> None:
        """Note that a channel was joined.

        After a successful recovery the missed messages follow, so the position stays.
        """
        known = channel in self._positions
        if state.get("recovered") is not True and "offset" in state:
            self._positions[channel] = {"offset": state["offset"], "epoch": state["epoch"]}
        if known and state.get("recovered") is False:
            self._inbox.put_nowait({"type": "gap", "channel": channel, "reason": state["reason"]})

    def _receive(self, message: Message) -> None:
        match message["type"]:
            case "subscribed":
                self._joined(message["channel"], message)
            case "gap" | "position":
                self._positions[message["channel"]] = {"offset": message["offset"], "epoch": message["epoch"]}
                if message["type"] == "gap":
                    self._inbox.put_nowait(message)
            case "message":
                if self._is_new(message):
                    self._inbox.put_nowait(message)
            case _:
                self._answered(message)

    def _is_new(self, message: Message) -> bool:
        """Note the position and the uid of a message, and return whether it has not been received before."""
        if "offset" in message:
            at = self._positions.get(message["channel"])
            if at is not None and at["epoch"] == message["epoch"] and message["offset"] <= at["offset"]:
                return False
            self._positions[message["channel"]] = {"offset": message["offset"], "epoch": message["epoch"]}
        uid = message.get("uid")
        if uid is None:
            return True
        channel = message["channel"]
        if any((channel, one) in self._uids for one in uids_of(uid)):  # it arrived before it was stored, too
            return False
        self._uids[channel, uid] = None
        if len(self._uids) > KEPT_UIDS:
            self._uids.popitem(last=False)
        return True

    def _answered(self, message: Message) -> None:
        if message["type"] == "error" and message["code"] in RETRIED:
            # Send all unanswered requests again. Because of their keys, messages are published only once.
            if self._retrying is None or self._retrying.done():
                self._retrying = asyncio.create_task(self._retry())
            return
        waiting = self._waiting.get(message.get("id", 0))
        if waiting is None or message.get("durable") is False:
            return  # another ack follows once the message is stored
        del self._waiting[message["id"]]
        if waiting[1].done():
            return
        if message["type"] == "error":
            waiting[1].set_exception(RefusedError(f"{message['code']}: {message['message']}"))
        else:
            waiting[1].set_result(message)


async def main(url: str, user_id: str, *channels: str) -> None:
    async with WsdClient(url, user_id) as client:
        for channel in channels:
            await client.subscribe(channel)
        async for message in client:
            sys.stdout.write(f"{message['channel']}: {message.get('data', message)}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
