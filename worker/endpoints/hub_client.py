"""A client of the hub's protocol: its requests are decoded, carried out, and answered."""

import time
from collections.abc import Coroutine
from typing import Any

import msgspec

from wsd.worker.background.containment import report
from wsd.worker.channels.joining import Joined
from wsd.worker.clients import operations
from wsd.worker.clients.client import MAX_UNDER_WAY, Client
from wsd.worker.clients.operations import Publication
from wsd.worker.delivery.handle import WebSocketHandle
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.histories import hub_page
from wsd.worker.manager.publisher import Published
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.credentials import Credentials
from wsd.worker.wire import messages as wire
from wsd.worker.wire.messages import RequestError, WireError
from wsd.worker.wire.position import Position

MAX_PING_LENGTH = 512
"""Characters of a ping that is looked for among the requests to be queued. Its id may have half of them."""

Publishing = wire.Publish | wire.Broadcast | wire.Direct


class HubClient(Client):
    """Receives what one client of the hub sends."""

    __slots__ = ("_credentials",)

    def __init__(
        self,
        manager: DistributedWebSocketManager,
        connection: Connection,
        handle: WebSocketHandle | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """`handle`: as for `Client`. `credentials`: None for a client that nothing authenticates."""
        super().__init__(manager, connection, handle)
        self._credentials = credentials

    def is_urgent(self, content: str | bytes) -> bool:
        """Return whether a message is a ping that says nothing of what the client has read."""
        mark = '"ping"' if isinstance(content, str) else b'"ping"'
        if len(content) > MAX_PING_LENGTH or mark not in content:  # type: ignore[operator]
            return False
        try:
            request = wire.decode(content)
        except WireError:
            return False  # it is refused in its turn
        return type(request) is wire.Ping and not request.positions

    def begin(self, content: str | bytes) -> Coroutine[Any, Any, None] | None:
        """See `Client.begin`."""
        now = self.count_message()
        request: wire.Request | None = None
        try:
            self.check_rates(now, content)
            request = wire.decode(content)
            if type(request) is wire.Ping:
                self.note_ping()
                for channel, at in request.positions.items():
                    self.manager.confirm(self.connection, channel, at)
                self._reply(wire.Pong(request.id))
                return None
            self.note_active(now)
            if not isinstance(request, Publishing):
                return self._answer(request)
            publication = _publication(request)
            operations.check_publication(self.manager, self.connection, publication)
            if self.must_wait:
                return self._answer(request)
            self.publish(publication, now, request.id, tells_stored=request.id is not None)
        except WireError as exc:
            self._refuse(exc, exc.request_id)
        except RequestError as exc:
            self._refuse(exc, request.id if request is not None else wire.request_id(content))
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(request, exc)
        return None

    async def _answer(self, request: wire.Request) -> None:
        """Carry out a request that must be awaited, and answer it."""
        try:
            if isinstance(request, Publishing):
                await self.until_under_way(MAX_UNDER_WAY - 1)
                publication = await operations.permitted(self.manager, self.connection, _publication(request))
                self.publish(publication, time.monotonic(), request.id, tells_stored=request.id is not None)
            else:
                await self.until_under_way(0)
                await self._carry_out(request)
        except RequestError as exc:
            self._refuse(exc, request.id)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(request, exc)

    async def _carry_out(self, request: wire.Request) -> None:
        """Carry out a request that publishes nothing, and answer it.

        Raises RequestError for a request that cannot be carried out.
        """
        manager, connection = self.manager, self.connection
        match request:
            case wire.Subscribe():
                await self._subscribe(request)
            case wire.Unsubscribe(channel=channel, id=request_id):
                await operations.unsubscribe(manager, connection, channel)
                self._ack(request_id)
            case wire.Presence(channel=channel, id=request_id):
                count, members = await operations.presence(manager, connection, channel)
                self._reply(wire.Members(channel, count, members, request_id))
            case wire.History(channel=channel, id=request_id):
                page = await operations.history(
                    manager,
                    connection,
                    channel,
                    since=request.since,
                    limit=request.limit,
                    reverse=request.reverse,
                    epoch=request.epoch,
                )
                self._reply(hub_page(channel, page, request_id))
            case wire.Delivered(channel=channel, user_id=user_id, id=request_id):
                offset = await operations.read_by(manager, connection, channel, user_id, request.epoch)
                delivered = offset >= request.offset > 0
                self._reply(wire.Receipt(channel, user_id, delivered, offset, request_id))
            case wire.Refresh(token=token, id=request_id):
                self._ack(request_id, await operations.refresh(connection, self._credentials, token))
            case wire.Resume():
                raise RequestError("invalid_request", "resume comes first, after connecting with ?resume=1")

    async def _subscribe(self, request: wire.Subscribe) -> None:
        def announce(place: Joined | None, token_expires_in: float | None) -> None:
            if place is not None:
                state = msgspec.structs.asdict(place.state())
                self._reply(wire.Subscribed(channel=request.channel, **state))
            self._ack(request.id, token_expires_in)

        await operations.subscribe(
            self.manager,
            self.connection,
            request.channel,
            announce,
            since=request.since,
            last=request.last,
            token=request.token,
        )

    # Answers

    def answer_published(self, request: wire.RequestId, done: Published | NotStoredError) -> None:
        """See `Client.answer_published`. A request without an id is only told of a failure."""
        if isinstance(done, NotStoredError):
            self._refuse(RequestError("not_stored", str(done)), request)
        elif request is not None:
            at = done.position
            durable = bool(at) if done.kept else None
            self._reply(wire.Ack(request, at.offset if at else None, at.epoch if at else None, durable))

    def answer_stored(self, request: wire.RequestId, at: Position) -> None:
        """Send a second ack."""
        self._reply(wire.Ack(request, at.offset, at.epoch, durable=True))

    def _reply(self, message: msgspec.Struct) -> None:
        self.manager.reply(self.connection, wire.encode(message))

    def _ack(self, request_id: wire.RequestId, token_expires_in: float | None = None) -> None:
        """Answer a request that was carried out, unless it has no id."""
        if request_id is not None:
            self._reply(wire.Ack(request_id, token_expires_in=token_expires_in))

    def _refuse(self, exc: RequestError, request_id: wire.RequestId) -> None:
        self._reply(wire.Error(exc.code, str(exc), request_id))

    def _failed(self, request: wire.Request | None, exc: Exception) -> None:
        """Answer a request that raised an unexpected exception. The requests after it are carried out."""
        report("a client's request", exc)
        refusal = RequestError("internal_error", "the server could not do it")
        self._refuse(refusal, request.id if request is not None else None)


def _publication(request: Publishing) -> Publication:
    key = request.idempotency_key or ""
    match request:
        case wire.Publish():
            return Publication(request.data, request.channel, None, key)
        case wire.Broadcast():
            return Publication(request.data, None, None, key)
        case wire.Direct():
            return Publication(request.data, None, request.user_id, key)
