"""The connections of this worker, by session, user and channel, and sending to many of them at once."""

import asyncio
from collections.abc import Iterable, Iterator

from wsd.worker.delivery.batch import Batch, Message, SlowReaders
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.wire.channel_names import BROADCAST, USER_PREFIX
from wsd.worker.wire.exclusion import mark_of


class Fanout:
    """Three indexes of the same outboxes. Empty groups are removed, so that memory grows only with clients."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.sent = 0  # messages, counted once for each receiver
        self._outboxes: dict[str, Outbox] = {}
        self._of_user: dict[str, set[Outbox]] = {}
        self._members: dict[str, set[Outbox]] = {}
        self._batches: dict[str, Batch] = {}  # the newest of each channel, in this turn of the event loop
        self._by_mark: dict[str, Outbox] | None = None  # by the mark of the session, once one was looked for

    def __len__(self) -> int:
        return len(self._outboxes)

    def __iter__(self) -> Iterator[Outbox]:
        return iter(self._outboxes.values())

    def __contains__(self, outbox: Outbox) -> bool:
        return self._outboxes.get(outbox.session_id) is outbox

    def get(self, session_id: str) -> Outbox | None:
        return self._outboxes.get(session_id)

    def add(self, outbox: Outbox) -> None:
        self._seal(BROADCAST)
        self._outboxes[outbox.session_id] = outbox
        if self._by_mark is not None:
            self._by_mark[mark_of(outbox.session_id)] = outbox

    def remove(self, outbox: Outbox) -> None:
        if outbox in self:
            self._seal(BROADCAST)
            del self._outboxes[outbox.session_id]
            if self._by_mark is not None:
                self._by_mark.pop(mark_of(outbox.session_id), None)

    def add_to_user(self, outbox: Outbox) -> int:
        """Add an outbox to its user. Return how many connections the user now has on this worker."""
        outboxes = self._of_user.setdefault(outbox.user_id, set())
        outboxes.add(outbox)
        return len(outboxes)

    def remove_from_user(self, outbox: Outbox) -> None:
        _discard(self._of_user, outbox.user_id, outbox)

    def of_user(self, user_id: str) -> list[Outbox]:
        """Return the connections of a user on this worker."""
        return [outbox for outbox in self._of_user.get(user_id, ()) if outbox in self]

    def join(self, outbox: Outbox, channel: str) -> None:
        self._seal(channel)
        self._members.setdefault(channel, set()).add(outbox)

    def leave(self, outbox: Outbox, channel: str) -> None:
        self._seal(channel)
        _discard(self._members, channel, outbox)

    def members(self, channel: str) -> set[Outbox]:
        return self._members.get(channel, set())

    def user_sizes(self) -> Iterator[tuple[str, int]]:
        return ((user_id, len(outboxes)) for user_id, outboxes in self._of_user.items())

    def channel_sizes(self) -> Iterator[tuple[str, int]]:
        named = ((channel, len(outboxes)) for channel, outboxes in self._members.items())
        return ((channel, size) for channel, size in named if not channel.startswith(USER_PREFIX))

    @property
    def users(self) -> int:
        return len(self._of_user)

    @property
    def channels(self) -> int:
        return sum(1 for _ in self.channel_sizes())

    def send(self, outboxes: Iterable[Outbox], payload: bytes) -> None:
        message = Message(payload)
        for outbox in outboxes:
            outbox.put(message)
            self.sent += 1

    def send_to_members(
        self, channel: str, label: str, message: Message, policy: SlowReaders = "close_and_resume"
    ) -> bool:
        """Send to every member of a channel. Return False if it has no members on this worker.

        `label` is the name of the channel that clients know. Messages that are sent within one turn of the event loop
        share one batch.
        """
        members = self._outboxes.values() if channel == BROADCAST else self._members.get(channel)
        if not members:
            return False
        self.sent += len(members)
        batch = self._batches.get(channel)
        if batch is not None and batch.open:
            batch.messages.append(message)
            return True
        if not self._batches:
            asyncio.get_running_loop().call_soon(self._batches.clear)
        batch = self._batches[channel] = Batch(label, policy, [message])
        idle = []
        for outbox in members:  # `SendQueue.put` is spelled out for outboxes with nothing pending, which are most
            if outbox.pending:
                outbox.put(batch)
            else:
                outbox.pending.append(batch)
                idle.append(outbox)
        self._outlet.touch_all(idle)
        return True

    def send_to_others(
        self,
        channel: str,
        label: str,
        message: Message,
        mark: str,
        policy: SlowReaders = "close_and_resume",
        instead: Message | None = None,
    ) -> bool:
        """Send to every member of a channel but one, see `wire.exclusion`. Return False if it has no members here.

        `mark`: that of the session which does not get the message. It gets another one `instead`.
        """
        excluded = self._marked(mark)
        members = self._outboxes.values() if channel == BROADCAST else self._members.get(channel, ())
        if excluded is None or (channel != BROADCAST and excluded not in members):  # all connections are in BROADCAST
            return self.send_to_members(channel, label, message, policy)
        self._seal(channel)
        batch = Batch(label, policy, [message])
        batch.open = False
        for outbox in members:
            if outbox is not excluded:
                outbox.put(batch)
        self.sent += len(members) - 1
        if instead is not None:
            notice = Batch(label, policy, [instead])
            notice.open = False
            excluded.put(notice)
            self.sent += 1
        return True

    def _marked(self, mark: str) -> Outbox | None:
        """Return the connection of the session with a mark, if it is here."""
        if self._by_mark is None:
            self._by_mark = {mark_of(session_id): outbox for session_id, outbox in self._outboxes.items()}
        return self._by_mark.get(mark)

    def _seal(self, channel: str) -> None:
        """Close the channel's batch, because its members are about to change."""
        batch = self._batches.pop(channel, None)
        if batch is not None:
            batch.open = False


def _discard(index: dict[str, set[Outbox]], key: str, outbox: Outbox) -> None:
    """Remove an outbox from its group, and the group when it is empty."""
    group = index.get(key)
    if group is not None:
        group.discard(outbox)
        if not group:
            del index[key]
