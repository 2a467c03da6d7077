"""The channels of a client: its memberships, its positions, and what it has heard."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from wsd.client.effects import Gap, Message
from wsd.client.membership import Membership
from wsd.client.settings import MAX_UIDS
from wsd.client.texts import is_text

OWN_CHANNELS = ("broadcast", "direct")
"""Channels that every client is in, and that it cannot join or leave."""

KEYED_UID = re.compile("([^-]{32})-([0-9a-f]+)")
"""The uid of a message with an idempotency key: 32 characters, and the minute in hexadecimal."""


class Channels:
    """The memberships of a client, its positions, and the uids of the latest messages.

    A channel without a membership is one of which the hub sends messages, and has not said why: it is heard, and keeps
    its position. What is not heard has no position, because showing a position to the hub subscribes to its channel.
    """

    def __init__(self) -> None:
        self.memberships: dict[str, Membership] = {}
        self.positions: dict[str, Message] = {}  # by channel: `offset` and `epoch` of the last message
        self._uids: dict[tuple[str, str], None] = {}  # of the latest messages, the oldest first

    def hears(self, channel: str) -> bool:
        """Return whether messages of a channel are delivered."""
        membership = self.memberships.get(channel)
        return membership is None or membership.heard

    @contextmanager
    def changing(self, channel: str) -> Iterator[Membership]:
        """Give the membership in a channel, and forget what is over after the change."""
        membership = self.memberships.get(channel)
        if membership is None:
            membership = self.memberships[channel] = Membership(heard=channel in self.positions)
        was_heard = membership.heard
        yield membership
        if was_heard and not membership.heard:
            self._forget(channel)
        if membership.is_over:
            del self.memberships[channel]

    def is_by_hub(self, channel: str) -> bool:
        """Return whether the client hears a channel that the application has not asked for."""
        membership = self.memberships.get(channel)
        return channel in self.positions if membership is None else membership.by_hub

    def put_in(self, channel: str) -> None:
        """Note that the hub has made the client a member of a channel by itself."""
        if channel not in OWN_CHANNELS:
            with self.changing(channel) as membership:
                membership.put_in()

    def welcomed(self, states: dict[str, Message]) -> tuple[list[str], list[Gap]]:
        """Take over the channels of a welcome. Return the channels that are lost, and the gaps before the positions.

        `states`: by channel, its position and whether what was missed follows.
        """
        lost = []
        for channel in list(self.memberships):
            with self.changing(channel) as membership:
                if membership.welcomed(inside=channel in states):
                    lost.append(channel)
        gaps = []
        for channel, state in states.items():
            if channel not in self.memberships:
                self.put_in(channel)
            before = self.positions.get(channel)
            if gap := self.placed(channel, state):
                gaps.append(gap)
            elif before is not None and "recovered" not in state and (at := self.positions[channel]) != before:
                # The client could not say where it was.
                gaps.append(Gap(channel, "expired" if at["epoch"] == before["epoch"] else "epoch_changed"))
        return lost, gaps

    def taken_out(self, channel: str, *, for_good: bool) -> bool:
        """Note that the hub has taken the client out of a channel. Return True if the application is to be told.

        `for_good`: see `Membership.taken_out`.
        """
        if channel not in self.memberships:
            self._forget(channel)
            return True
        with self.changing(channel) as membership:
            return membership.taken_out(for_good=for_good)

    def _forget(self, channel: str) -> None:
        """Forget what was heard. Who enters the channel again with the last messages wants all of them."""
        self.positions.pop(channel, None)
        self._uids = {known: None for known in self._uids if known[0] != channel}

    def placed(self, channel: str, state: Message) -> Gap | None:
        """Note the position that the hub has given the client in a channel. Return the gap before it, if there is one.

        After a successful recovery the messages before the position follow, so the client is still before them.
        """
        if not self.hears(channel):
            return None
        known, at = self.positions.get(channel), position_in(channel, state)
        if state.get("recovered") is True:
            if known is None and at is not None:
                count = state.get("count")
                at["offset"] -= count if is_whole(count) else 0
                self.positions[channel] = at
            return None
        if at is not None:
            self.positions[channel] = at
        if known is not None and state.get("recovered") is False:
            return Gap(channel, str(state.get("reason", "")))
        return None

    def moved(self, channel: str, event: Message) -> None:
        """Note a position that the hub has told by itself."""
        at = position_in(channel, event)
        if self.hears(channel) and at is not None:
            self.positions[channel] = at

    def is_new(self, message: Message) -> bool:
        """Note a message. Return whether the application should get it: it came for the first time, and is wanted."""
        channel = message.get("channel", "")
        if not self.hears(channel):
            return False
        at, uid = position_in(channel, message), message.get("uid")
        if at is not None:
            known = self.positions.get(channel)
            if known is not None and known["epoch"] == at["epoch"] and at["offset"] <= known["offset"]:
                return False
            self.positions[channel] = at
        if not isinstance(uid, str) or not uid:
            return True
        if any((channel, one) in self._uids for one in uids_of(uid)):  # it arrived before it was stored, too
            return False
        self._uids[channel, uid] = None
        if len(self._uids) > MAX_UIDS:
            del self._uids[next(iter(self._uids))]
        return True


def position_in(channel: str, fields: Message) -> Message | None:
    """Return the position that a message names in a channel, or None if it names none that could be sent back."""
    offset, epoch = fields.get("offset"), fields.get("epoch")
    if is_text(channel) and is_whole(offset) and is_text(epoch):
        return {"offset": offset, "epoch": epoch}
    return None


def uids_of(uid: str) -> tuple[str, ...]:
    """Return the uids that a message may have.

    The uid of a message with an idempotency key ends with the minute in which it was sent, in hexadecimal. A try in the
    next minute has another one.
    """
    keyed = KEYED_UID.fullmatch(uid)
    if keyed is None:
        return (uid,)
    name, minute = keyed[1], int(keyed[2], 16)
    return uid, f"{name}-{minute - 1:x}", f"{name}-{minute + 1:x}"


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value of a JSON object is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
