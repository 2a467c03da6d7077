"""The connections of this worker, by session, user and channel, and sending to many of them at once."""

from collections import Counter
from collections.abc import Callable, Iterator

from wsd.worker.delivery.audience import Audience
from wsd.worker.delivery.batch import Message, SlowReaders
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.wire.channel_names import USER_PREFIX
from wsd.worker.wire.exclusion import mark_of

Render = Callable[[Dialect], Message | None]
"""Returns a message in a dialect, or None if the dialect leaves it out."""


class Fanout:
    """Three indexes of the same outboxes. Empty groups are removed, so that memory grows only with clients.

    The members of channels are in one `Audience` for each dialect that a client of this worker speaks or has spoken.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.told = 0  # messages to one connection each
        self._outboxes: dict[str, Outbox] = {}
        self._of_user: dict[str, set[Outbox]] = {}
        self._audiences: dict[Dialect, Audience] = {}
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
        self._audience(outbox.dialect).add(outbox)
        self._outboxes[outbox.session_id] = outbox
        if self._by_mark is not None:
            self._by_mark[mark_of(outbox.session_id)] = outbox

    def remove(self, outbox: Outbox) -> None:
        if outbox in self:
            self._audience(outbox.dialect).remove(outbox)
            del self._outboxes[outbox.session_id]
            if self._by_mark is not None:
                self._by_mark.pop(mark_of(outbox.session_id), None)

    def add_to_user(self, outbox: Outbox) -> int:
        """Add an outbox to its user. Return how many connections the user now has on this worker."""
        outboxes = self._of_user.setdefault(outbox.user_id, set())
        outboxes.add(outbox)
        return len(outboxes)

    def remove_from_user(self, outbox: Outbox) -> None:
        outboxes = self._of_user.get(outbox.user_id)
        if outboxes is not None:
            outboxes.discard(outbox)
            if not outboxes:
                del self._of_user[outbox.user_id]

    def of_user(self, user_id: str) -> list[Outbox]:
        """Return the connections of a user on this worker."""
        return [outbox for outbox in self._of_user.get(user_id, ()) if outbox in self]

    def join(self, outbox: Outbox, channel: str) -> None:
        self._audience(outbox.dialect).join(outbox, channel)

    def leave(self, outbox: Outbox, channel: str) -> None:
        self._audience(outbox.dialect).leave(outbox, channel)

    def members(self, channel: str) -> set[Outbox]:
        """Return the members of a channel, whatever they speak. The set belongs to the fanout."""
        groups = [members for audience in self._audiences.values() if (members := audience.members(channel))]
        return groups[0] if len(groups) == 1 else set().union(*groups)

    def has_members(self, channel: str) -> bool:
        return any(audience.members(channel) for audience in self._audiences.values())

    def user_sizes(self) -> Iterator[tuple[str, int]]:
        return ((user_id, len(outboxes)) for user_id, outboxes in self._of_user.items())

    def channel_sizes(self) -> Iterator[tuple[str, int]]:
        sizes: Counter[str] = Counter()
        for audience in self._audiences.values():
            for channel, size in audience.channel_sizes():
                if not channel.startswith(USER_PREFIX):
                    sizes[channel] += size
        return iter(sizes.items())

    @property
    def users(self) -> int:
        return len(self._of_user)

    @property
    def channels(self) -> int:
        return sum(1 for _ in self.channel_sizes())

    @property
    def sent(self) -> int:
        """The number of messages, counted once for each receiver."""
        return self.told + sum(audience.sent for audience in self._audiences.values())

    def tell(self, outbox: Outbox, payload: bytes | None) -> None:
        """Send one connection what was rendered for it. None: nothing is sent."""
        if payload is not None:
            outbox.send(payload)
            self.told += 1

    def tell_first(self, outbox: Outbox, payload: bytes | None) -> None:
        """Send one connection its first message. None: nothing is sent."""
        if payload is not None:
            outbox.send_first(payload)
            self.told += 1

    def send_to_members(self, channel: str, render: Render, policy: SlowReaders = "close_and_resume") -> bool:
        """Send to every member of a channel. Return False if it has no members on this worker.

        `render` is called once for each dialect that members speak.
        """
        has_members = False
        for audience in self._audiences.values():
            if audience.receivers(channel):
                has_members = True
                message = render(audience.dialect)
                if message is not None:
                    audience.send(channel, message, policy)
        return has_members

    def send_to_others(
        self,
        channel: str,
        render: Render,
        mark: str,
        policy: SlowReaders = "close_and_resume",
        instead: Render | None = None,
    ) -> bool:
        """Send to every member of a channel but one, see `wire.exclusion`. Return False if it has no members here.

        `mark`: that of the session which does not get the message. It gets another one `instead`.
        """
        excluded = self._marked(mark)
        if excluded is None or excluded not in self._audience(excluded.dialect).receivers(channel):
            return self.send_to_members(channel, render, policy)
        for audience in self._audiences.values():
            receivers = [outbox for outbox in audience.receivers(channel) if outbox is not excluded]
            if receivers and (message := render(audience.dialect)) is not None:
                audience.send_to_some(channel, message, policy, receivers)
        if instead is not None and (notice := instead(excluded.dialect)) is not None:
            self._audience(excluded.dialect).send_to_some(channel, notice, policy, [excluded])
        return True

    def _audience(self, dialect: Dialect) -> Audience:
        audience = self._audiences.get(dialect)
        if audience is None:
            audience = self._audiences[dialect] = Audience(dialect, self._outlet)
        return audience

    def _marked(self, mark: str) -> Outbox | None:
        """Return the connection of the session with a mark, if it is here."""
        if self._by_mark is None:
            self._by_mark = {mark_of(session_id): outbox for session_id, outbox in self._outboxes.items()}
        return self._by_mark.get(mark)
