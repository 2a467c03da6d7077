"""A client of the Centrifuge protocol: its commands are carried out and answered."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from itertools import groupby
from typing import Any, TypeGuard

import msgspec
from msgspec import Raw

from wsd.worker.background.containment import report
from wsd.worker.centrifuge import codes
from wsd.worker.centrifuge.dialect import CentrifugeDialect, info_of, publication_in
from wsd.worker.centrifuge.messages import (
    NO_DATA,
    REJECT_UNRECOVERED,
    BadCommand,
    Command,
    Error,
    HistoryRequest,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishRequest,
    PublishResult,
    RefreshResult,
    Reply,
    RPCRequest,
    RPCResult,
    SubRefreshRequest,
    SubRefreshResult,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeResult,
)
from wsd.worker.centrifuge.names import is_server_side, user_of
from wsd.worker.channels.feed import Loss
from wsd.worker.channels.joining import Joined
from wsd.worker.channels.recovery import AnyEpoch
from wsd.worker.clients import operations
from wsd.worker.clients.client import MAX_UNDER_WAY, Client
from wsd.worker.clients.operations import Publication
from wsd.worker.delivery.handle import WebSocketHandle
from wsd.worker.errors import NotStoredError
from wsd.worker.hooks.functions import answer_to
from wsd.worker.hooks.records import ClientCall, MessageRefusedError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.publisher import Published
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.authentication import AuthenticationError, TokenExpiredError, UndecidedError
from wsd.worker.security.credentials import Credentials
from wsd.worker.wire.channel_names import BROADCAST, is_channel
from wsd.worker.wire.frames import close_reason
from wsd.worker.wire.messages import MAX_HISTORY_PAGE, Member, RequestError
from wsd.worker.wire.position import Position

VERSION = "wsd"
"""The version of the server that clients are told. Which one it is concerns nobody outside."""

PATIENCE_SECONDS = 4.0
"""How long a subscription waits for a Redis that is away. The clients connect again after 5 s without an answer."""

PONG = Command()
"""The answer of a client to a ping."""


class CentrifugeClient(Client):
    """Receives what one client of the Centrifuge protocol sends."""

    __slots__ = ("_credentials", "_dialect")

    def __init__(
        self,
        manager: DistributedWebSocketManager,
        connection: Connection,
        dialect: CentrifugeDialect,
        handle: WebSocketHandle | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """`handle`: as for `Client`. `credentials`: None for a client that nothing authenticates."""
        super().__init__(manager, connection, handle)
        self._dialect = dialect
        self._credentials = credentials

    def is_urgent(self, content: str | bytes) -> bool:
        """Return whether a frame is the answer to a ping, and nothing else."""
        return content in {"{}", b"{}", b"\0"}

    def begin(self, content: str | bytes) -> Coroutine[Any, Any, None] | None:
        """See `Client.begin`."""
        try:
            commands = self._dialect.frames.decode(content)
        except ValueError as exc:
            self.count_message()
            self._close(codes.BAD_REQUEST_CLOSE, str(exc))
            return None
        return self.begin_commands(commands, content)

    def begin_first(self, commands: Sequence[Command | BadCommand]) -> None:
        """Carry out what came in one frame with `connect`. To be called before anything else is received."""
        self.receive_first(self.begin_commands(commands, b""))

    def begin_commands(
        self, commands: Sequence[Command | BadCommand], content: str | bytes
    ) -> Coroutine[Any, Any, None] | None:
        """Carry out the commands of a frame in their order, or return the coroutine that must be awaited for them.

        `content`: the frame, of whose bytes each command counts for the same share.
        """
        share = content if len(commands) == 1 else content[: len(content) // max(1, len(commands))]
        steps = [list(step) for _, step in groupby(commands, key=_goes_together)]
        for number, step in enumerate(steps):
            if (todo := self._begin_step(step, share)) is not None:
                return self._go_on(todo, steps[number + 1 :], share)
        return None

    async def _go_on(
        self, todo: Coroutine[Any, Any, None], later: Sequence[list[Command | BadCommand]], share: str | bytes
    ) -> None:
        await todo
        for step in later:
            if (more := self._begin_step(step, share)) is not None:
                await more

    def _begin_step(self, step: list[Command | BadCommand], share: str | bytes) -> Coroutine[Any, Any, None] | None:
        """Carry out commands that go together, or return the coroutine that must be awaited for them."""
        todo = [command for command in step if self._is_admitted(command, share)]
        if not todo:
            return None
        if todo[0].subscribe is not None:
            return self._subscribe_all(todo)
        return self._begin_command(todo[0])

    def _is_admitted(self, command: Command | BadCommand, share: str | bytes) -> TypeGuard[Command]:
        """Count a command. Return whether it has to be carried out: it is no pong, and within the rates.

        `share`: as many bytes as the command counts for.
        """
        now = self.count_message()
        if self.connection.outbox.closed is not None:
            return False
        try:
            self.check_rates(now, share)
        except RequestError as exc:
            self._refuse(exc, command.id)
            return False
        if isinstance(command, BadCommand):
            self._refuse(RequestError("invalid_request", command.detail), command.id)
            return False
        if command == PONG:
            self.note_ping()
            return False
        self.note_active(now)
        if command.id == 0 and command.send is None:
            self._close(codes.BAD_REQUEST_CLOSE, "a command needs an id")
            return False
        if command.connect is not None:
            self._close(codes.BAD_REQUEST_CLOSE, "connect comes once")
            return False
        return True

    def _begin_command(self, command: Command) -> Coroutine[Any, Any, None] | None:
        """Carry out a command, or return the coroutine that must be awaited for it."""
        try:
            if command.publish is None:
                return self._answer(command)
            publication = _publication(command.publish)
            operations.check_publication(self.manager, self.connection, publication)
            if self.must_wait:
                return self._answer(command)
            self.publish(publication, time.monotonic(), command.id)
        except RequestError as exc:
            self._refuse(exc, command.id)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(command, exc)
        return None

    async def _answer(self, command: Command) -> None:
        """Carry out a command that must be awaited, and answer it."""
        try:
            if command.publish is not None:
                await self.until_under_way(MAX_UNDER_WAY - 1)
                publication = _publication(command.publish)
                publication = await operations.permitted(self.manager, self.connection, publication)
                self.publish(publication, time.monotonic(), command.id)
            else:
                await self.until_under_way(0)
                await self._carry_out(command)
        except RequestError as exc:
            self._refuse(exc, command.id)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(command, exc)

    async def _carry_out(self, command: Command) -> None:
        """Carry out a command that is neither `publish` nor `subscribe`, and answer it. Raises RequestError."""
        number = command.id
        if (unsubscribe := command.unsubscribe) is not None:
            if not is_server_side(unsubscribe.channel):
                await operations.unsubscribe(self.manager, self.connection, unsubscribe.channel)
            self._reply(Reply(id=number, unsubscribe=UnsubscribeResult()))
        elif (presence := command.presence) is not None:
            _, members = await self._members(presence.channel)
            found = {member.client: info_of(member) for member in members}
            self._reply(Reply(id=number, presence=PresenceResult(presence=found)))
        elif (stats := command.presence_stats) is not None:
            count, members = await self._members(stats.channel)
            users = len({member.user_id for member in members})
            self._reply(Reply(id=number, presence_stats=PresenceStatsResult(num_clients=count, num_users=users)))
        elif command.history is not None:
            self._reply(Reply(id=number, history=await self._history(command.history)))
        elif command.refresh is not None:
            await self._refresh(number, command.refresh.token)
        elif command.sub_refresh is not None:
            await self._sub_refresh(number, command.sub_refresh)
        elif command.rpc is not None:
            self._reply(Reply(id=number, rpc=RPCResult(data=await self._call(command.rpc))))
        elif command.send is None:  # `send` is for functions of the application, and there are none
            self._answer_error(number, codes.NOT_AVAILABLE)

    # Channels

    async def _subscribe_all(self, commands: Sequence[Command]) -> None:
        """Subscribe to channels side by side, so that Redis is asked once for all of them."""
        await self.until_under_way(0)
        names = {command.subscribe.channel for command in commands if command.subscribe is not None}
        with self.manager.holding(filter(is_channel, names)):
            await asyncio.gather(*map(self._subscribe, commands))

    async def _subscribe(self, command: Command) -> None:
        request = command.subscribe
        assert request is not None
        channel, number = request.channel, command.id
        unrecovered: Error | None = None

        def announce(place: Joined | None, seconds: float | None) -> None:
            nonlocal unrecovered
            assert place is not None
            unrecovered = _unrecovered(place, request)
            if unrecovered is not None:
                self._answer_error(number, unrecovered)
            else:
                self._reply(Reply(id=number, subscribe=_subscribed(place, request, seconds)))

        try:
            if request.type:
                raise RequestError("forbidden", "only channels with a stream of messages are served")
            if is_server_side(channel):
                self._answer_error(number, codes.ALREADY_SUBSCRIBED)
                return
            if channel in self.connection.channels:  # it was told that it has lost its position
                await operations.unsubscribe(self.manager, self.connection, channel)
            await operations.subscribe(
                self.manager,
                self.connection,
                channel,
                announce,
                since=_since(request),
                token=request.token,
                patience=PATIENCE_SECONDS,
            )
            if unrecovered is not None:
                await operations.unsubscribe(self.manager, self.connection, channel)
        except RequestError as exc:
            if exc.code == "token_needed" and request.token:
                self._answer_error(number, codes.TOKEN_EXPIRED)
            else:
                self._refuse(exc, number)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(command, exc)

    async def _members(self, channel: str) -> tuple[int, list[Member]]:
        return await operations.presence(self.manager, self.connection, channel)

    async def _history(self, request: HistoryRequest) -> HistoryResult:
        """Return what `history` asks for. Raises RequestError."""
        since = request.since
        if request.reverse and since is not None and since.offset == 0:
            raise RequestError("invalid_request", "reverse from offset 0 has nothing before it")
        limit = MAX_HISTORY_PAGE if request.limit < 0 else min(request.limit, MAX_HISTORY_PAGE)
        page = await operations.history(
            self.manager,
            self.connection,
            request.channel,
            since=since.offset if since is not None else 0,
            limit=max(limit, 1),
            reverse=request.reverse,
            epoch="",
        )
        if not self.manager.options(request.channel).history_size:
            raise RequestError("no_history", f"{request.channel} has no history")
        if since is not None and since.epoch and since.epoch != page.top.epoch:
            raise RequestError("unrecoverable_position", "the history is of another epoch")
        entries = page.entries if limit else ()
        found = [shown for entry in entries if (shown := publication_in(entry.payload, entry.position)) is not None]
        return HistoryResult(publications=found, epoch=page.top.epoch, offset=page.top.offset)

    async def _call(self, request: RPCRequest) -> Raw:
        """Return what the application answers to a call. Raises RequestError."""
        function = self.manager.centrifuge.rpc
        if function is None:
            raise RequestError("no_function", "the server answers no calls")
        data = msgspec.json.decode(checked_json(request.data)) if request.data is not NO_DATA else None
        call = ClientCall(
            method=request.method,
            data=data,
            identity=self.connection.identity,
            session_id=self.connection.session_id,
        )
        try:
            return await answer_to(function, call)
        except MessageRefusedError as exc:
            raise RequestError(exc.code, str(exc)) from None

    # Publishing

    def answer_published(self, request: int, done: Published | NotStoredError) -> None:
        """See `Client.answer_published`. `request`: the number of the command."""
        if isinstance(done, NotStoredError):
            self._refuse(RequestError("not_stored", str(done)), request)
        else:
            self._reply(Reply(id=request, publish=PublishResult()))

    def answer_stored(self, request: int, at: Position) -> None:
        """Do nothing: the protocol has no second answer to a command."""

    # Tokens

    async def _refresh(self, number: int, token: str) -> None:
        """Show another token for the connection."""
        if self._credentials is None:
            self._answer_error(number, codes.NOT_AVAILABLE)
            return
        try:
            await self._credentials.refresh(token)
        except UndecidedError:
            self._answer_error(number, codes.INTERNAL)
            return
        except TokenExpiredError:
            self._close(codes.CONNECTION_EXPIRED)
            return
        except AuthenticationError as exc:
            self._close(codes.INVALID_TOKEN, str(exc))
            return
        self.connection.identity = self._credentials.identity
        self.connection.outbox.note("refreshed", "its token")
        seconds = self._credentials.seconds_left
        result = RefreshResult(
            client=self.connection.outbox.public_id, version=VERSION, expires=seconds is not None, ttl=whole(seconds)
        )
        self._reply(Reply(id=number, refresh=result))

    async def _sub_refresh(self, number: int, request: SubRefreshRequest) -> None:
        """Show another token for a subscription. Raises RequestError."""
        if request.channel not in self.connection.channels:
            raise RequestError("forbidden", f"the client is not in {request.channel}")
        if not request.token:
            raise RequestError("invalid_request", "a token is missing")

        def announce(_: Joined | None, seconds: float | None) -> None:
            result = SubRefreshResult(expires=seconds is not None, ttl=whole(seconds))
            self._reply(Reply(id=number, sub_refresh=result))

        try:
            await operations.subscribe(self.manager, self.connection, request.channel, announce, token=request.token)
        except RequestError as exc:
            if exc.code != "token_needed":
                raise
            self._answer_error(number, codes.EXPIRED)

    # Answers

    def _reply(self, reply: Reply) -> None:
        if reply.id:
            self.manager.reply(self.connection, self._dialect.frames.encode([reply]))

    def _answer_error(self, number: int, error: Error) -> None:
        self._reply(Reply(id=number, error=error))

    def _refuse(self, exc: RequestError, number: int) -> None:
        self._answer_error(number, codes.error_for(exc.code, str(exc)))

    def _failed(self, command: Command, exc: Exception) -> None:
        """Answer a command that raised an unexpected exception. The commands after it are carried out."""
        report("a client's command", exc)
        self._answer_error(command.id, codes.INTERNAL)

    def _close(self, close: codes.Close, detail: str = "") -> None:
        self.connection.close(close.code, close_reason(f"{close.reason}: {detail}" if detail else close.reason))


def whole(seconds: float | None) -> int:
    """Return seconds as a `ttl` says them: whole ones, and at least 1. None: 0."""
    return max(1, int(seconds)) if seconds is not None else 0


def _goes_together(command: Command | BadCommand) -> object:
    """Return a key that is the same for commands that are carried out together: subscriptions in a row."""
    is_subscription = isinstance(command, Command) and command.subscribe is not None
    return "subscribe" if is_subscription else id(command)


def _publication(request: PublishRequest) -> Publication:
    """Return what a client publishes. Raises RequestError for data that is not JSON."""
    checked_json(request.data)
    if (user_id := user_of(request.channel)) is not None:
        return Publication(data=request.data, user_id=user_id)
    return Publication(data=request.data, channel=None if request.channel == BROADCAST else request.channel)


def checked_json(data: Raw) -> Raw:
    """Return data of a client. With Protocol Buffers it may be anything.

    Raises RequestError if it is not JSON in UTF-8, which others could not read.
    """
    try:
        bytes(data).decode()
        msgspec.json.decode(data, type=Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        raise RequestError("invalid_request", "data must be JSON") from None
    return data


def _since(request: SubscribeRequest) -> Position | AnyEpoch | None:
    """Return the position after which a client wants what it missed. An empty epoch matches any."""
    if not request.recover:
        return None
    return Position(request.offset, request.epoch) if request.epoch else AnyEpoch(request.offset)


def _unrecovered(place: Joined, request: SubscribeRequest) -> Error | None:
    """Return the error for a client that is not to be subscribed, since what it missed cannot be had."""
    if place.recovered is not False:
        return None
    if place.loss is Loss.UNAVAILABLE:
        return codes.INTERNAL
    return codes.UNRECOVERABLE_POSITION if request.flag & REJECT_UNRECOVERED else None


def _subscribed(place: Joined, request: SubscribeRequest, seconds: float | None) -> SubscribeResult:
    """Return the answer to a subscription. `seconds`: for which its token is valid.

    What was missed follows as publications, and moves the position of the client on.
    """
    at = place.position
    recovered = place.recovered is True
    return SubscribeResult(
        expires=seconds is not None,
        ttl=whole(seconds),
        recoverable=at is not None,
        positioned=at is not None,
        epoch=at.epoch if at is not None else "",
        offset=(at.offset - place.count if recovered else at.offset) if at is not None else 0,
        recovered=recovered,
        was_recovering=request.recover,
    )
