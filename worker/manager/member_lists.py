"""Lists of the members of channels, as clients and other workers see them."""

from contextlib import suppress
from itertools import islice

from wsd.worker.channels.channels import Channels
from wsd.worker.channels.presence import Presence
from wsd.worker.channels.presence_events import PresenceEvents
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.wire.messages import Member


class MemberLists:
    """The members of channels on all workers, and the events when members join and leave.

    The option `presence` of a channel says whether it has a list of members, and whether it has events, too.
    """

    def __init__(
        self,
        presence: Presence,
        events: PresenceEvents,
        fanout: Fanout,
        channels: Channels,
        redis: RedisSteps,
        *,
        worker_id: str,
        node_id: str,
    ) -> None:
        self._presence = presence
        self._events = events
        self._fanout = fanout
        self._channels = channels
        self._redis = redis
        self._worker_id = worker_id
        self._node_id = node_id

    def joined(self, outbox: Outbox, channel: str) -> None:
        """List a connection of this worker as a member of a channel."""
        kind = self._channels.options(channel).presence
        if kind != "off":
            self._presence.joined(channel, outbox.public_id, self._member(outbox))
        if kind == "events":
            self._events.joined(channel, outbox.public_id, self._member(outbox))

    def left(self, outbox: Outbox, channel: str) -> None:
        """Take a connection of this worker out of the list of a channel."""
        kind = self._channels.options(channel).presence
        if kind != "off":
            self._presence.left(channel, outbox.public_id)
        if kind == "events":
            self._events.left(channel, outbox.public_id, self._member(outbox))

    async def of_channel(self, channel: str, limit: int) -> tuple[int, list[Member]]:
        """Return the number of members on all workers, and up to `limit` of them, those of this worker first.

        While Redis is away: only those of this worker.
        """
        here = self._fanout.members(channel)
        members = [self._member(outbox) for outbox in islice(here, limit)]
        count, others = 0, list[Member]()
        with suppress(RedisUnavailableError):
            async with self._redis.step("presence was not answered"):
                count, others = await self._presence.others(channel, limit)
        return len(here) + count, [*members, *others][:limit]

    def workers_seen(self, live: frozenset[str]) -> None:
        """Take note of the workers that live now. The members of a worker that has died leave its channels."""
        names = [name for name, _ in self._fanout.channel_sizes()]
        self._events.workers_seen(live, [name for name in names if self._channels.options(name).presence == "events"])

    def _member(self, outbox: Outbox) -> Member:
        return Member(outbox.user_id, outbox.username, self._node_id, self._worker_id, outbox.public_id)
