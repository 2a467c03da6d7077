"""The channels that connections are in: joining, leaving, and entering them again after a reconnect."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack

from wsd.worker.channels.channels import Channels
from wsd.worker.channels.joining import PATIENCE_SECONDS, Joined
from wsd.worker.channels.recovery import Wanted
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.errors import ChannelFullError
from wsd.worker.manager.member_lists import MemberLists
from wsd.worker.security.authentication import Identity
from wsd.worker.security.authorization import Authorize, is_allowed
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, is_channel, user_channel
from wsd.worker.wire.position import Position

MAX_CHANNELS = 100
"""Channels that one connection may be in."""


class Membership:
    """Makes connections members of channels, and takes them out again.

    What holds at all times:

    - Every connection is in two channels that clients cannot join: BROADCAST, and the channel of its user. They are not
      in `Outbox.channels`, and the application is not asked about them.
    - A channel is stored in the session before the client learns that it joined. If the worker dies in between, the
      client is in the channel when it resumes.
    - A member is added, told its position, and sent what it missed, in one go: no message comes in between. A
      connection that has ended meanwhile is not added.
    """

    def __init__(
        self,
        channels: Channels,
        fanout: Fanout,
        members: MemberLists,
        keeper: SessionKeeper,
        authorize: Authorize | None,
    ) -> None:
        """`authorize`: the application's own rule on who may subscribe to what, None if it has none."""
        self._channels = channels
        self._fanout = fanout
        self._members = members
        self._keeper = keeper
        self._authorize = authorize

    async def join(
        self, outbox: Outbox, channel: str, wanted: Wanted | None, announce: Callable[[Joined], None]
    ) -> None:
        """Make a connection a member of a channel.

        `announce` is called once it is a member, before anything of the channel is sent to it. The earlier messages
        that are `wanted` come first, as far as the history has them.

        Raises ChannelFullError.
        """
        limit = self._channels.options(channel).max_members
        if limit and channel not in outbox.channels and len(self._fanout.members(channel)) >= limit:
            raise ChannelFullError(f"{channel} may have {limit} members on a worker")
        with self._channels.holding(channel):
            if channel not in outbox.channels:
                await self._keeper.set_membership(outbox.session_id, channel, member=True)
            await self._channels.join(channel, wanted, self._adder(outbox, channel), announce, outbox)

    async def leave(self, outbox: Outbox, channel: str) -> None:
        """Take a connection out of a channel that it is in, and forget it in the session."""
        if channel in outbox.channels:
            self._leave(outbox, channel)
            outbox.note("left", channel)
            await self._keeper.set_membership(outbox.session_id, channel, member=False)

    def expecting(self, outbox: Outbox) -> AbstractContextManager[object]:
        """Return a block in which the channel of a connection's user is subscribed, before the connection enters it."""
        return self._channels.holding(user_channel(outbox.user_id))

    async def enter_all(
        self, outbox: Outbox, subscribed: Iterable[str], since: Mapping[str, Position], *, trusted: bool = False
    ) -> dict[str, wire.ChannelState]:
        """Make a new connection a member of BROADCAST, of its user's channel, and of those that it was in before.

        `subscribed`: the channels of its session. `since`: the position that the client has reached, by channel. The
        connection enters the channels of both. Channels that the client may not be in any more are removed from its
        session.

        `trusted`: the connection enters exactly the channels of its session, and the application is not asked.

        Return the state of the connection in each channel, by the name that the client knows.
        """
        states: dict[str, wire.ChannelState] = {}
        gives_up_at = time.monotonic() + PATIENCE_SECONDS

        async def enter(name: str, label: str, add: Callable[[], None]) -> None:
            def announce(joined: Joined) -> None:
                states[label] = joined.state()
                _note_recovery(outbox, label, states[label])

            await self._channels.join(name, since.get(label), add, announce, outbox, gives_up_at)

        own = user_channel(outbox.user_id)
        await enter(BROADCAST, BROADCAST, lambda: self._fanout.add(outbox))
        await enter(own, DIRECT, lambda: self._fanout.join(outbox, own))
        before = frozenset(subscribed)
        if not before and (trusted or not since):
            return states
        allowed = sorted(before) if trusted else await self._allowed(outbox, before | since.keys())
        with ExitStack() as stack:
            for name in allowed:
                stack.enter_context(self._channels.holding(name))
            for name in before ^ set(allowed):
                await self._keeper.set_membership(outbox.session_id, name, member=name in allowed)
            for name in allowed:
                await enter(name, name, self._adder(outbox, name))
        return states

    def leave_all(self, outbox: Outbox) -> None:
        """Take a connection that has ended out of all its channels. Its session keeps them."""
        self._fanout.remove(outbox)
        for channel in list(outbox.channels):
            self._leave(outbox, channel)
        outbox.stop_catching_up()
        own = user_channel(outbox.user_id)
        self._fanout.leave(outbox, own)
        self._channels.left(own)

    async def _allowed(self, outbox: Outbox, names: Iterable[str]) -> list[str]:
        """Return the channels that a client may be in, up to MAX_CHANNELS of them, sorted by name."""
        named = sorted(name for name in names if is_channel(name))[:MAX_CHANNELS]
        identity = Identity(outbox.user_id, outbox.username)
        return [name for name in named if await is_allowed(self._authorize, identity, "subscribe", name)]

    def _adder(self, outbox: Outbox, channel: str) -> Callable[[], None]:
        def add() -> None:
            if outbox in self._fanout and channel not in outbox.channels:  # it may have ended meanwhile
                outbox.channels.add(channel)
                self._fanout.join(outbox, channel)
                self._members.joined(outbox, channel)
                outbox.note("joined", channel)

        return add

    def _leave(self, outbox: Outbox, channel: str) -> None:
        outbox.channels.discard(channel)
        outbox.caught_up(channel)
        self._fanout.leave(outbox, channel)
        self._channels.left(channel)
        self._members.left(outbox, channel)


def _note_recovery(outbox: Outbox, label: str, state: wire.ChannelState) -> None:
    """Note in the record of a connection what it missed in a channel."""
    if state.recovered is False:
        outbox.note("missed", f"messages in {label}: {state.reason}")
    elif state.count:
        outbox.note("recovered", f"{state.count} messages in {label}")
