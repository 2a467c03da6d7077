"""Clients of the hub for tests: requests over any connection, and a client that can come back."""

import asyncio
import contextlib
import itertools
import json
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection

_ids = itertools.count(1)


async def receive(connection: ClientConnection) -> dict[str, Any]:
    """Receive the next message within ten seconds."""
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await connection.recv())
    return message


async def ask(connection: ClientConnection, **request: object) -> dict[str, Any]:
    """Send a request with an id and return its answer. Messages that arrive before the answer are dropped."""
    request_id = next(_ids)
    await connection.send(json.dumps({**request, "id": request_id}))
    while (answer := await receive(connection)).get("id") != request_id:
        pass
    return answer


async def close_of(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the server to close the connection, and return the code and the reason."""
    async with asyncio.timeout(10):
        await connection.wait_closed()
    return connection.close_code, connection.close_reason


def said(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without its position in the history."""
    return {key: value for key, value in message.items() if key not in ("offset", "epoch", "uid")}


class Hub(Protocol):
    """A server of the hub: one worker, or a cluster behind its nginx."""

    async def open(self, query: str = "") -> ClientConnection: ...


class HubClient:
    """A client of the hub, which keeps what it needs to come back: its token, and positions in its channels."""

    def __init__(self, user_id: str) -> None:
        self.user_id = self.username = user_id
        self.connection: ClientConnection
        self.welcome: dict[str, Any] = {}
        self.unread: list[dict[str, Any]] = []
        """Messages that arrived while `ask` waited for an answer."""
        self.since: dict[str, dict[str, Any]] = {}
        """The position of the last message read, by channel."""

    async def connect(self, to: Hub, *, resume: bool = True) -> dict[str, Any]:
        """Open a connection and return the welcome. A client that had a session before asks for it again."""
        token = self.welcome.get("resume_token", "") if resume else ""
        query = f"user_id={self.user_id}&username={self.username}" + ("&resume=1" if token else "")
        self.connection = await to.open(query)
        if token:
            await self.send({"type": "resume", "token": token, "since": self.since})
        self.welcome = await self.receive()
        assert self.welcome["type"] == "welcome"
        for channel, state in self.welcome["channels"].items():
            self._note_position(channel, state)
        return self.welcome

    def _note_position(self, channel: str, state: dict[str, Any]) -> None:
        if "offset" in state:
            offset = state["offset"] - (state.get("count") or 0)  # what is replayed is yet to be read
            self.since[channel] = {"offset": offset, "epoch": state["epoch"]}

    @property
    def worker_id(self) -> str:
        worker_id: str = self.welcome["worker_id"]
        return worker_id

    @property
    def slot(self) -> int:
        return int(self.worker_id.split("-")[1])

    async def send(self, message: object) -> None:
        await self.connection.send(message if isinstance(message, str) else json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        return await receive(self.connection)

    async def ask(self, **request: object) -> dict[str, Any]:
        """Send a request with an id and return its answer. Messages that arrive before it are kept in `unread`."""
        request_id = next(_ids)
        await self.send({**request, "id": request_id})
        while (answer := await self.receive()).get("id") != request_id:
            self.unread.append(answer)
        return answer

    async def subscribe(self, channel: str, **more: Any) -> dict[str, Any]:
        """Subscribe, and return the state of the channel, which must come before any of its messages."""
        await self.send({"type": "subscribe", "channel": channel, **more})
        state = await self.receive()
        assert (state["type"], state["channel"]) == ("subscribed", channel)
        self._note_position(channel, state)
        return state

    async def read(self, count: int) -> list[Any]:
        """Read messages. Each must follow the one before it in its channel."""
        found = []
        for _ in range(count):
            message = await self.receive()
            assert message["type"] == "message", message
            at = self.since[message["channel"]]
            assert (message["offset"], message["epoch"]) == (at["offset"] + 1, at["epoch"])
            at["offset"] += 1
            found.append(message["data"])
        return found

    async def next_message(self) -> dict[str, Any]:
        """Return the next message that somebody published, without its position in the history."""
        while True:
            message = self.unread.pop(0) if self.unread else await self.receive()
            if message["type"] == "message":
                return said(message)

    async def nothing_arrives(self) -> None:
        """Check that no message is under way: the next thing that arrives is the answer to a ping."""
        request_id = next(_ids)
        await self.send({"type": "ping", "id": request_id})
        answer = await self.receive()
        assert (answer["type"], answer.get("id")) == ("pong", request_id)

    async def wait_for_broadcasts_of(self, sender: "HubClient") -> None:
        """Wait until a broadcast of `sender` arrives: the workers may be on their way back to Redis."""
        for _ in range(100):
            await sender.send({"text": "is anybody there?"})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await self.connection.recv()
                    return
        raise AssertionError("no broadcast arrived")

    async def come_back(self, to: Hub) -> None:
        """Wait until the server closes the connection with 1012 (service restart), and resume the session."""
        code, _ = await close_of(self.connection)
        assert code == 1012
        assert (await self.connect(to))["resumed"]

    async def drop(self) -> None:
        """Lose the connection without a close frame."""
        self.connection.transport.abort()
        await self.connection.wait_closed()

    async def close(self) -> None:
        await self.connection.close()


async def hub_client(user_id: str, to: Hub, *channels: str) -> HubClient:
    """Connect a client, and subscribe it to channels."""
    client = HubClient(user_id)
    await client.connect(to)
    for channel in channels:
        await client.subscribe(channel)
    return client
