"""Operations on the sessions and the channels of users, on whatever workers their clients are."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from msgspec import Struct

from wsd.worker.background.containment import report
from wsd.worker.broker.questions import Questions
from wsd.worker.channels.joining import Joined
from wsd.worker.contract.redis_keys import EVERY_WORKER, worker_channel
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.errors import ChannelFullError, RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.manager.membership import MAX_CHANNELS, Membership
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.security.authentication import Identity
from wsd.worker.security.channel_access import BY_APPLICATION
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.sessions.session_store import Member, SessionInfo, SessionState
from wsd.worker.wire import frames
from wsd.worker.wire.close_codes import SESSION_ENDED_REASON, CloseCode
from wsd.worker.wire.names import name_problem

logger = get_logger(__name__)

MAX_WAITING = 1000
"""Changes of membership that may wait on one worker. Further ones are dropped, and logged."""

ALL_SESSIONS_SECONDS = 30.0
"""How long it may take to read, or to end, all sessions of a user: there may be thousands."""

AGAIN_SECONDS = (0.1, 0.5)
"""The pauses before a user is taken out of a channel once more, while a client that came back is still in it."""

SIDE_BY_SIDE = 500
"""Connections that join or leave a channel side by side, so that their sessions are written together."""


class ChangeMembership(Struct, frozen=True, tag="change_membership"):
    """The request to all workers to let the clients of a user join or leave a channel."""

    asker: str  # worker id
    question: str
    user_id: str
    channel: str
    member: bool


class MembershipChanged(Struct, frozen=True, tag="membership_changed"):
    """The answer of a worker to ChangeMembership: how many connections have joined or left."""

    question: str
    worker_id: str
    connections: int


class CloseSession(Struct, frozen=True, tag="close_session"):
    """The request to the worker of a session to close its connection, since the session ends."""

    session_id: str
    code: int
    reason: str


Request = ChangeMembership | CloseSession


class UserOperations:
    """Lists and ends sessions, and lets users join and leave channels. `run` must run."""

    def __init__(
        self,
        worker_id: str,
        *,
        publish: Callable[[str, Struct], Awaitable[object]],
        fanout: Fanout,
        keeper: SessionKeeper,
        membership: Membership,
        redis: RedisSteps,
    ) -> None:
        """`publish` sends a message to workers, see `peers.PublishToWorkers`."""
        self._worker_id = worker_id
        self._publish = publish
        self._fanout = fanout
        self._keeper = keeper
        self._membership = membership
        self._redis = redis
        self._asked: Questions[MembershipChanged] = Questions()
        self._waiting: asyncio.Queue[ChangeMembership] = asyncio.Queue(MAX_WAITING)

    # Sessions

    async def sessions(self, user_id: str, offset: int, limit: int) -> tuple[int, list[SessionInfo]]:
        """Return the number of sessions, and a page of them, see `DistributedWebSocketManager.sessions`."""
        store = self._keeper.store
        async with self._redis.step("sessions were not listed", ALL_SESSIONS_SECONDS if user_id else 0.0):
            if user_id:
                found = await store.list_by_user(user_id)
                return len(found), found[offset : offset + limit]
            return await store.count(), await store.list_all(offset, limit)

    async def end_sessions(self, *, user_id: str, session_id: str, code: int, reason: str) -> list[SessionInfo]:
        """End the sessions of a user, or one session, see `DistributedWebSocketManager.end_sessions`."""
        frames.encode_close(code, reason)
        store = self._keeper.store
        async with self._redis.step("sessions were not ended", ALL_SESSIONS_SECONDS):
            if session_id:
                found = await store.get(session_id)
                ended = [found] if found is not None else []
            else:
                ended = await store.list_by_user(user_id)
            if (code, reason) != (CloseCode.SESSION_ENDED, SESSION_ENDED_REASON):
                await asyncio.gather(
                    *(
                        self._publish(worker_channel(session.worker_id), CloseSession(session.session_id, code, reason))
                        for session in ended
                    )
                )
            await store.delete_many([session.session_id for session in ended])
        for session in ended:
            if session.worker_id == self._worker_id:
                self._keeper.changed(session.session_id)  # the store tells other workers only
        return ended

    def close_session(self, request: CloseSession) -> None:
        """Close the connection of a session of this worker, if there is one."""
        if (outbox := self._fanout.get(request.session_id)) is not None:
            outbox.close(request.code, request.reason)

    # Channels of users

    async def change_membership(self, user_id: str, channel: str, *, member: bool, workers: int) -> int:
        """Let all clients of a user join or leave a channel, see `DistributedWebSocketManager.subscribe_user`."""
        if problem := name_problem(user_id):
            raise ValueError(f"user_id {problem}")
        changed = 0
        for pause in (0.0, *AGAIN_SECONDS):
            await asyncio.sleep(pause)
            await self._change_stored(user_id, channel, member=member)
            changed += await self._change_connected(user_id, channel, member=member, workers=workers)
            if member or not await self._is_stored(user_id, channel):
                return changed
        await self._change_stored(user_id, channel, member=False, all_sessions=True)  # their worker may have died
        return changed

    async def _change_connected(self, user_id: str, channel: str, *, member: bool, workers: int) -> int:
        """Let the connections of a user join or leave a channel. Return how many did, as far as workers answered."""
        answers = await self._asked.ask(
            lambda question: self._publish(
                EVERY_WORKER, ChangeMembership(self._worker_id, question, user_id, channel, member)
            ),
            lambda answers: len({answer.worker_id for answer in answers}) >= workers,
        )
        return sum({answer.worker_id: answer.connections for answer in answers}.values())

    async def _change_stored(self, user_id: str, channel: str, *, member: bool, all_sessions: bool = False) -> None:
        """Let the sessions of a user without a connection, or all of them, join or leave a channel in the store."""
        change: dict[str, Member] = {channel: BY_APPLICATION if member else False}
        changes_of: defaultdict[str, dict[str, dict[str, Member]]] = defaultdict(dict)  # by worker id
        with suppress(RedisUnavailableError):
            async with self._redis.step("stored sessions were not changed", ALL_SESSIONS_SECONDS):
                for session in await self._keeper.store.list_by_user(user_id):
                    if all_sessions or session.state is SessionState.DETACHED:
                        changes_of[session.worker_id][session.session_id] = change
                for worker_id, changes in changes_of.items():
                    await self._keeper.store.update_channels(changes, worker_id)

    async def _is_stored(self, user_id: str, channel: str) -> bool:
        """Return whether some session of a user is in a channel, as far as the store can say."""
        with suppress(RedisUnavailableError):
            async with self._redis.step("sessions were not read", ALL_SESSIONS_SECONDS):
                return any(channel in session.channels for session in await self._keeper.store.list_by_user(user_id))
        return False

    def wants_change(self, request: ChangeMembership) -> None:
        """Take the request of a worker. Does not block."""
        try:
            self._waiting.put_nowait(request)
        except asyncio.QueueFull:
            logger.warning("dropped a change of the channels of user %r: too many wait", request.user_id)

    def answered(self, answer: MembershipChanged) -> None:
        """Take another worker's answer to a request of this one."""
        self._asked.add_answer(answer.question, answer)

    async def run(self) -> None:
        """Carry out the requests of workers until cancelled."""
        while True:
            request = await self._waiting.get()
            connections = self._fanout.of_user(request.user_id)
            changed = await self._change(connections, request.channel, member=request.member)
            await self._publish(
                worker_channel(request.asker), MembershipChanged(request.question, self._worker_id, changed)
            )

    async def _change(self, connections: Iterable[Outbox], channel: str, *, member: bool) -> int:
        """Let connections of this worker join or leave a channel. Return how many did."""
        changing = [outbox for outbox in connections if member != (channel in outbox.channels)]
        change = self._join if member else self._leave
        changed = 0
        for start in range(0, len(changing), SIDE_BY_SIDE):
            group = changing[start : start + SIDE_BY_SIDE]
            for result in await asyncio.gather(*(change(each, channel) for each in group), return_exceptions=True):
                if isinstance(result, Exception):
                    report("a change of the channels of a user", result)
                elif result is True:
                    changed += 1
        return changed

    async def _join(self, outbox: Outbox, channel: str) -> bool:
        if len(outbox.channels) >= MAX_CHANNELS:
            logger.warning(
                "user %r is in %d channels already, and does not join %s", outbox.user_id, MAX_CHANNELS, channel
            )
            return False

        def announce(joined: Joined) -> None:
            self._fanout.tell(outbox, outbox.dialect.joined(channel, joined.position))

        identity = Identity(outbox.user_id, outbox.username)
        try:
            await self._membership.join(outbox, channel, None, announce, identity=identity, grant=BY_APPLICATION)
        except ChannelFullError as exc:
            logger.warning("user %r does not join %s: %s", outbox.user_id, channel, exc)
            return False
        return True

    async def _leave(self, outbox: Outbox, channel: str) -> bool:
        await self._membership.leave(outbox, channel)
        self._fanout.tell(outbox, outbox.dialect.left(channel, "server"))
        return True
