"""The channels that connections are in: joining, leaving, and entering them again after a reconnect."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

from wsd.worker.channels.channels import Channels
from wsd.worker.channels.joining import PATIENCE_SECONDS, Joined
from wsd.worker.channels.recovery import Wanted
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.errors import ChannelFullError
from wsd.worker.manager.grants import Grants
from wsd.worker.manager.member_lists import MemberLists
from wsd.worker.security.authentication import Identity
from wsd.worker.security.authorization import Action, Authorize, is_allowed
from wsd.worker.security.channel_access import OPEN, Grant, Refusal, refusal
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.sessions.session_store import SessionInfo
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, is_channel, user_channel
from wsd.worker.wire.position import Position

MAX_CHANNELS = 100
"""Channels that one connection may be in."""


class Entered(NamedTuple):
    """The channels that a new connection is in, and those of its session that it may not be in any more."""

    states: dict[str, wire.ChannelState]
    refused: dict[str, wire.LeaveReason]


class Membership:
    """Makes connections members of channels, and takes them out again.

    What holds at all times:

    - Every connection is in two channels that clients cannot join: BROADCAST, and the channel of its user. They are not
      in `Outbox.channels`, and the application is not asked about them.
    - A channel is stored in the session before the client learns that it joined. If the worker dies in between, the
      client is in the channel when it resumes.
    - A member is added, told its position, and sent what it missed, in one go: no message comes in between. A
      connection that has ended meanwhile is not added.
    - A member that the rules allow to be in a channel only with a subscription token leaves it when the token ends.
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
        self._grants = Grants(self._token_ended)
        self._joining: dict[str, set[Outbox]] = {}  # by channel, where the members are limited

    def refusal(
        self, outbox: Outbox, identity: Identity, action: Action, channel: str, token: Grant | None = None
    ) -> Refusal | None:
        """Return why the rules do not let a client do something in a channel, or None if they do.

        `token`: the grant of a subscription token that the client shows now.
        """
        access = self._channels.access(channel)
        if access.is_open(action):
            return None
        return refusal(access, identity, action, self._with(token, outbox, channel))

    async def join(
        self,
        outbox: Outbox,
        channel: str,
        wanted: Wanted | None,
        announce: Callable[[Joined], None],
        *,
        identity: Identity,
        grant: Grant | None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Make a connection a member of a channel.

        `announce` is called once it is a member, before anything of the channel is sent to it. The earlier messages
        that are `wanted` come first, as far as the history has them. `grant`: what the client is given with it.
        `patience`: the seconds for which earlier messages are waited for while Redis is away.

        Raises ChannelFullError.
        """
        with self._place(outbox, channel), self._channels.holding(channel):
            if channel in outbox.channels and grant is not None:
                self._give(outbox, channel, identity, grant)  # now, so that no earlier token ends meanwhile
            if channel not in outbox.channels or grant is not None:
                member = self._with(grant, outbox, channel) or True
                await self._keeper.set_membership(outbox.session_id, channel, member)
            add = self._adder(outbox, channel, identity, grant)
            await self._channels.join(channel, wanted, add, announce, outbox, time.monotonic() + patience)

    @contextmanager
    def _place(self, outbox: Outbox, channel: str) -> Iterator[None]:
        """Keep a place in a channel for a connection that joins. Raises ChannelFullError."""
        limit = self._channels.options(channel).max_members
        if not limit or channel in outbox.channels:
            yield
            return
        members, joining = self._fanout.members(channel), self._joining.setdefault(channel, set())
        try:
            if len(members) + len(joining - members) >= limit:
                raise ChannelFullError(f"{channel} may have {limit} members on a worker")
            joining.add(outbox)
            yield
        finally:
            joining.discard(outbox)
            if not joining:
                self._joining.pop(channel, None)

    async def renew(self, outbox: Outbox, channel: str, identity: Identity, grant: Grant) -> None:
        """Give a member a grant in place of an earlier one."""
        self._give(outbox, channel, identity, grant)  # first, so that the earlier token does not end meanwhile
        await self._keeper.set_membership(outbox.session_id, channel, self._with(grant, outbox, channel) or True)

    async def leave(self, outbox: Outbox, channel: str) -> None:
        """Take a connection out of a channel that it is in, and forget it in the session."""
        if channel in outbox.channels:
            self._leave(outbox, channel)
            outbox.note("left", channel)
            await self._keeper.set_membership(outbox.session_id, channel, False)

    def expecting(self, outbox: Outbox) -> AbstractContextManager[object]:
        """Return a block in which the channel of a connection's user is subscribed, before the connection enters it."""
        return self._channels.holding(user_channel(outbox.user_id))

    async def enter_all(
        self,
        outbox: Outbox,
        session: SessionInfo,
        since: Mapping[str, Position],
        identity: Identity,
        *,
        trusted: bool = False,
        patience: float = PATIENCE_SECONDS,
    ) -> Entered:
        """Make a new connection a member of BROADCAST, of its user's channel, and of those that it was in before.

        `since`: the position that the client has reached, by channel. The connection enters these channels and those of
        its session. Channels that the client may not be in any more are removed from its session. A channel that only
        `since` names may be full, a channel of the session never is.

        `trusted`: the connection enters exactly the channels of its session, and neither the rules nor the application
        are asked. `patience`: the seconds for which a client with earlier positions waits for a Redis that is away.

        Return the state of the connection in each channel, by the name that the client knows, and why it is not in
        others.
        """
        states: dict[str, wire.ChannelState] = {}
        gives_up_at = time.monotonic() + patience

        async def enter(name: str, label: str, add: Callable[[], None]) -> None:
            def announce(joined: Joined) -> None:
                states[label] = joined.state()
                _note_recovery(outbox, label, states[label])

            await self._channels.join(name, since.get(label), add, announce, outbox, gives_up_at)

        own = user_channel(outbox.user_id)
        await enter(BROADCAST, BROADCAST, lambda: self._fanout.add(outbox))
        await enter(own, DIRECT, lambda: self._fanout.join(outbox, own))
        before = session.channels
        if not before and (trusted or not since):
            return Entered(states, {})
        grants = {name: left for name, grant in session.grants.items() if (left := grant.at(time.time())) is not None}
        refused: dict[str, wire.LeaveReason] = {}
        if trusted:
            allowed = sorted(before)
        else:
            named = sorted(filter(is_channel, before | since.keys()))[:MAX_CHANNELS]
            refused = await self._refused(named, identity, grants)
            allowed = [name for name in named if name not in refused]
        with ExitStack() as stack:
            for name in [name for name in allowed if name not in before]:
                try:
                    stack.enter_context(self._place(outbox, name))
                except ChannelFullError:
                    refused[name] = "channel_full"
                    allowed.remove(name)
            for name in allowed:
                stack.enter_context(self._channels.holding(name))
            for name in before ^ set(allowed):
                await self._keeper.set_membership(outbox.session_id, name, name in allowed)
            for name in allowed:
                await enter(name, name, self._adder(outbox, name, identity, grants.get(name)))
        return Entered(states, refused)

    def leave_all(self, outbox: Outbox) -> None:
        """Take a connection that has ended out of all its channels. Its session keeps them."""
        self._fanout.remove(outbox)
        for channel in list(outbox.channels):
            self._leave(outbox, channel)
        outbox.stop_catching_up()
        own = user_channel(outbox.user_id)
        self._fanout.leave(outbox, own)
        self._channels.left(own)

    async def _refused(
        self, names: Iterable[str], identity: Identity, grants: Mapping[str, Grant]
    ) -> dict[str, wire.LeaveReason]:
        """Return the channels that a client that comes back may not be in, and why. The rules and the application both
        have to agree."""
        refused: dict[str, wire.LeaveReason] = {}
        for name in names:
            why = refusal(self._channels.access(name), identity, "subscribe", grants.get(name))
            if why is Refusal.NO_TOKEN:
                refused[name] = "token_needed"
            elif why is not None or not await is_allowed(self._authorize, identity, "subscribe", name):
                refused[name] = "forbidden"
        return refused

    def _with(self, grant: Grant | None, outbox: Outbox, channel: str) -> Grant | None:
        """Return the grant of a member together with another one."""
        present = self._grants.of(outbox, channel)
        return present.with_(grant) if present is not None and grant is not None else grant or present

    def _give(self, outbox: Outbox, channel: str, identity: Identity, grant: Grant) -> None:
        if self._channels.access(channel) != OPEN and (combined := self._with(grant, outbox, channel)) is not None:
            self._grants.set(outbox, channel, combined, identity)

    def _token_ended(self, outbox: Outbox, channel: str, identity: Identity) -> None:
        """Let a member leave whose subscription token has ended, unless it may be in the channel without one."""
        left = self._grants.of(outbox, channel)
        if self.refusal(outbox, identity, "subscribe", channel) is None:
            self._keeper.note_membership(outbox.session_id, channel, left or True)
            return
        self._leave(outbox, channel)
        outbox.note("left", f"{channel}: the subscription token has ended")
        self._keeper.note_membership(outbox.session_id, channel, False)
        self._fanout.tell(outbox, outbox.dialect.left(channel, "token_needed"))

    def _adder(self, outbox: Outbox, channel: str, identity: Identity, grant: Grant | None) -> Callable[[], None]:
        def add() -> None:
            if outbox not in self._fanout:  # it may have ended meanwhile
                return
            if channel not in outbox.channels:
                outbox.channels.add(channel)
                self._fanout.join(outbox, channel)
                self._members.joined(outbox, channel)
                outbox.note("joined", channel)
            if grant is not None:
                self._give(outbox, channel, identity, grant)

        return add

    def _leave(self, outbox: Outbox, channel: str) -> None:
        outbox.channels.discard(channel)
        self._grants.drop(outbox, channel)
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
