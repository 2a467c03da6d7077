"""The channels of a client: those that the application wants, where the client stands in them, and what it has read."""

import re
from dataclasses import dataclass, field
from typing import TypeGuard

from wsd.client.effects import Gap, Message
from wsd.client.settings import MAX_UIDS
from wsd.client.texts import is_text

OWN_CHANNELS = ("broadcast", "direct")
"""Channels that every client is in, and that it cannot join or leave."""

KEYED_UID = re.compile("([^-]{32})-([0-9a-f]+)")
"""The uid of a message with an idempotency key: 32 characters, and the minute in hexadecimal."""


@dataclass
class Reconciliation:
    """What the client has to do after a welcome, so that it is where the application wants it to be."""

    subscribe: list[str] = field(default_factory=list)
    unsubscribe: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


class Channels:
    """Membership is what the application said last, whatever the hub remembers of the session.

    A channel that was left stays in `leaving` until the hub has confirmed it, even if it is wanted again: its messages
    are dropped, and no position of it is shown to the hub, because naming a position subscribes to its channel.
    """

    def __init__(self) -> None:
        self.wanted: dict[str, None] = {}
        self.joined: set[str] = set()
        self.leaving: dict[str, None] = {}
        self.positions: dict[str, Message] = {}  # by channel: `offset` and `epoch` of the last message
        self._uids: dict[tuple[str, str], None] = {}  # of the latest messages, the oldest first

    def want(self, channel: str) -> None:
        self.wanted[channel] = None

    def left(self, channel: str) -> None:
        """Note that what comes of a channel belongs to no membership any more that was ended."""
        self.leaving.pop(channel, None)

    def leave(self, channel: str) -> None:
        self.forget(channel)
        self.leaving[channel] = None

    def forget(self, channel: str) -> None:
        """Forget a channel that the hub has refused."""
        self.left(channel)
        self.wanted.pop(channel, None)
        self.joined.discard(channel)
        self.positions.pop(channel, None)
        # Who enters the channel again with the last messages of its history wants all of them.
        self._uids = {known: None for known in self._uids if known[0] != channel}

    def welcomed(self, states: dict[str, Message], pending: set[str]) -> Reconciliation:
        """Take over the channels of a welcome.

        `states`: by channel, its position and whether what was missed follows. `pending`: channels that a call waits to
        join or to leave, which are settled by its own request.
        """
        todo = Reconciliation()
        for channel, given in states.items():
            state = given if isinstance(given, dict) else {}
            if channel in self.leaving:
                if channel not in pending:
                    todo.unsubscribe.append(channel)
                continue
            if channel not in OWN_CHANNELS:
                self.joined.add(channel)
            if channel in pending and channel not in self.positions:
                continue  # its request asks for the last messages, which would count as known
            before = self.positions.get(channel)
            if gap := self.placed(channel, state):
                todo.gaps.append(gap)
            elif before is not None and "recovered" not in state and (at := self.positions[channel]) != before:
                # The client could not say where it was.
                todo.gaps.append(Gap(channel, "expired" if at["epoch"] == before["epoch"] else "epoch_changed"))
        self.joined &= states.keys()
        todo.subscribe = [one for one in self.wanted if one not in self.joined and one not in pending]
        for channel in [one for one in self.leaving if one not in states and one not in pending]:
            del self.leaving[channel]
        return todo

    def placed(self, channel: str, state: Message) -> Gap | None:
        """Note the position that the hub has given the client in a channel. Return the gap before it, if there is one.

        After a successful recovery the messages before the position follow, so the client is still before them.
        """
        if channel in self.leaving:
            return None
        if channel not in OWN_CHANNELS:
            self.joined.add(channel)
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
        if channel not in self.leaving and at is not None:
            self.positions[channel] = at

    def is_new(self, message: Message) -> bool:
        """Note a message. Return whether the application should get it: it came for the first time, and is wanted."""
        channel = message.get("channel", "")
        if channel in self.leaving:
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
