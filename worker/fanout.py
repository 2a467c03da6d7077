"""Who is connected to this worker, as whom and in which channels; and the way out to many of them at once."""

from collections.abc import Iterable, Iterator

from wsd.worker.channel_options import SlowReaders
from wsd.worker.connection import Outbox
from wsd.worker.contract import USER_PREFIX
from wsd.worker.history import Position


class Fanout:
    """Three indexes over the same outboxes. Empty groups are taken away, so that nothing grows but with clients."""

    def __init__(self) -> None:
        self.sent = 0  # messages, to however many
        self._outboxes: dict[str, Outbox] = {}
        self._of_user: dict[str, set[Outbox]] = {}
        self._members: dict[str, set[Outbox]] = {}

    def __len__(self) -> int:
        return len(self._outboxes)

    def __iter__(self) -> Iterator[Outbox]:
        return iter(self._outboxes.values())

    def __contains__(self, outbox: Outbox) -> bool:
        return self._outboxes.get(outbox.session_id) is outbox

    def get(self, session_id: str) -> Outbox | None:
        return self._outboxes.get(session_id)

    def add(self, outbox: Outbox) -> None:
        self._outboxes[outbox.session_id] = outbox

    def remove(self, outbox: Outbox) -> None:
        if outbox in self:
            del self._outboxes[outbox.session_id]

    def add_to_user(self, outbox: Outbox) -> int:
        """How many connections that user now has here."""
        outboxes = self._of_user.setdefault(outbox.user_id, set())
        outboxes.add(outbox)
        return len(outboxes)

    def remove_from_user(self, outbox: Outbox) -> None:
        _discard(self._of_user, outbox.user_id, outbox)

    def join(self, outbox: Outbox, channel: str) -> None:
        self._members.setdefault(channel, set()).add(outbox)

    def leave(self, outbox: Outbox, channel: str) -> None:
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

    def send(self, outboxes: Iterable[Outbox], text: str) -> None:
        for outbox in outboxes:
            outbox.send(text)
            self.sent += 1

    def send_droppable(
        self, outboxes: Iterable[Outbox], channel: str, position: Position, text: str, policy: SlowReaders
    ) -> None:
        for outbox in outboxes:
            if policy == "conflate":
                outbox.send_latest(channel, position, text)
            else:
                outbox.send_droppable(channel, position, text)
            self.sent += 1


def _discard(index: dict[str, set[Outbox]], key: str, outbox: Outbox) -> None:
    """Take an outbox out of its group, and the group away when it is empty."""
    group = index.get(key)
    if group is not None:
        group.discard(outbox)
        if not group:
            del index[key]
