"""Serves the hub at /ws, and at /lines clients that speak a dialect of their own: lines of words.

A client sends `join ROOM`, `last ROOM COUNT`, `leave ROOM`, `say ROOM WORD`, `to USER WORD`, `who ROOM` and `old ROOM`.
It is sent binary messages.
"""

from collections.abc import Coroutine
from typing import Any

import msgspec
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from wsd.worker.channels.joining import Joined
from wsd.worker.clients import operations
from wsd.worker.clients.client import Client
from wsd.worker.clients.operations import Publication
from wsd.worker.clients.serving import serve
from wsd.worker.delivery.handle import handle_of
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.endpoints import hub
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.publisher import Published
from wsd.worker.wire import messages as wire
from wsd.worker.wire.frames import BINARY
from wsd.worker.wire.position import Position


class _Message(msgspec.Struct, tag="message"):
    data: msgspec.Raw
    channel: str = ""


_published = msgspec.json.Decoder(_Message | wire.PresenceChanged)


class LineDialect(Dialect):
    """A dialect that says everything in a line."""

    opcode = BINARY

    def __init__(self) -> None:
        self.rendered = 0  # messages of channels

    def published(self, payload: bytes, channel: str, at: Position | None) -> bytes | None:
        self.rendered += 1
        try:
            found = _published.decode(payload)
        except msgspec.DecodeError:
            return None
        if isinstance(found, _Message):
            place = f" @{at.offset}" if at is not None else ""
            return b"%s%s %s" % (channel.encode(), place.encode(), found.data)
        joined, left = ([member.user_id for member in members] for members in (found.joined, found.left))
        return f"{channel} +{joined} -{left}".encode()

    def position(self, channel: str, at: Position) -> bytes:
        return f"{channel} @{at.offset}".encode()

    def gap(self, channel: str, reason: str, at: Position) -> bytes:
        return f"{channel} {reason} @{at.offset}".encode()

    def welcome(self, welcome: wire.Welcome) -> bytes:
        return f"hello {welcome.user_id} {welcome.session_id}".encode()

    def joined(self, channel: str, at: Position | None) -> bytes:
        return f"in {channel}".encode()

    def left(self, channel: str, reason: wire.LeaveReason) -> bytes:
        return f"out {channel} {reason}".encode()

    def closing(self, code: int, reason: str) -> tuple[int, str]:
        return 3000 + code % 1000, f"{reason}, in a line"


LINES = LineDialect()


def _json(word: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(word))


class LineClient(Client):
    """A client whose requests are lines. `rendered` says how many messages the dialect has rendered so far."""

    def is_urgent(self, content: str | bytes) -> bool:
        return content == "rendered"

    def begin(self, content: str | bytes) -> Coroutine[Any, Any, None] | None:
        now = self.count_message()
        verb, *words = str(content).split()
        self.note_active(now)
        try:
            self.check_rates(now, content)
            match verb, words:
                case "rendered", []:
                    self._say(f"rendered {LINES.rendered}")
                case "say", [room, word]:
                    self._send(Publication(data=_json(word), channel=room), now)
                case "to", [user_id, word]:
                    self._send(Publication(data=_json(word), user_id=user_id), now)
                case _:
                    return self._answer(verb, words)
        except wire.RequestError as exc:
            self._say(f"no {exc.code}")
        return None

    def _send(self, publication: Publication, now: float) -> None:
        operations.check_publication(self.manager, self.connection, publication)
        self.publish(publication, now)

    async def _answer(self, verb: str, words: list[str]) -> None:
        manager, connection, room = self.manager, self.connection, words[0]
        try:
            await self.until_under_way(0)
            match verb:
                case "join" | "last":
                    last = int(words[1]) if verb == "last" else None

                    def announce(place: Joined | None, _: float | None) -> None:
                        at = place.position if place is not None else None
                        self._say(f"joined {room} @{at.offset if at is not None else ''}")

                    await operations.subscribe(manager, connection, room, announce, last=last)
                case "leave":
                    await operations.unsubscribe(manager, connection, room)
                    self._say(f"left {room}")
                case "who":
                    count, members = await operations.presence(manager, connection, room)
                    self._say(f"{count} in {room}: {sorted(member.user_id for member in members)}")
                case "old":
                    page = await operations.history(
                        manager, connection, room, since=0, limit=10, reverse=False, epoch=""
                    )
                    self._say(f"{len(page.entries)} of {page.top.offset} in {room}")
        except wire.RequestError as exc:
            self._say(f"no {exc.code}")

    def answer_published(self, request: Any, done: Published | NotStoredError) -> None:
        at = done.position if isinstance(done, Published) else None
        self._say(f"said @{at.offset if at is not None else ''}")

    def answer_stored(self, request: Any, at: Position) -> None:
        self._say(f"stored @{at.offset}")

    def _say(self, line: str) -> None:
        self.manager.reply(self.connection, line.encode())


async def lines(websocket: WebSocket) -> None:
    manager = websocket.state.websocket_manager
    await websocket.accept()
    handle = handle_of(websocket.scope)
    outbox = handle.outbox if handle is not None else None
    connecting = manager.connect(websocket.query_params["user_id"], outbox=outbox, dialect=LINES)
    await serve(websocket, connecting, lambda connection: LineClient(manager, connection, handle))


app = hub.app
app.router.routes.insert(0, WebSocketRoute("/lines", lines))
