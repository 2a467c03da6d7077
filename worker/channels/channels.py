"""The channels that have members on this worker: joined, published to, received from the broker, and left.

The feed of a channel decides what is handed out. The parts below carry that out, each for one subject: `open_channels`
opens and closes channels, `catch_up` brings them to their positions, `joining` sends clients that come back what they
missed, `member_messages` sends what is new, and `histories` publishes and reads.
"""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from wsd.worker.broker.history import Entry
from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.channels.catch_up import CatchUp
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.histories import ChannelHistories
from wsd.worker.channels.joining import Joining
from wsd.worker.channels.member_messages import MemberMessages
from wsd.worker.channels.open_channels import OpenChannels
from wsd.worker.channels.options import ChannelOptions, ChannelRules
from wsd.worker.channels.recovery import Recovery
from wsd.worker.contract.redis_keys import channel_of
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.wire.channel_names import DIRECT, USER_PREFIX

if TYPE_CHECKING:  # it imports asyncpg, which only an archive needs
    from wsd.worker.archive.reader import ArchiveReader


class Channels:
    """The channels of this worker, with their members, positions and histories. `run` must run."""

    def __init__(
        self,
        broker: MessageBroker,
        fanout: Fanout,
        rules: ChannelRules,
        timeout: float,
        archive: "ArchiveReader | None" = None,
    ) -> None:
        """`timeout`: seconds that a client that joins, or reads a history, may wait for Redis."""
        self._rules = rules
        self.access = rules.access
        self.open_to_publish = rules.open_to_publish
        self._channels: dict[str, Channel] = {}
        self._members = MemberMessages(fanout)
        self._catch_up = CatchUp(broker, self._channels, self._members, timeout)
        self._open = OpenChannels(broker, fanout, self._channels, self.options, self._catch_up)
        self._joining = Joining(self._open, Recovery(broker, self._catch_up), self._members)
        histories = ChannelHistories(broker, self._channels, self.options, self._members, timeout, archive)
        # Methods of the parts, taken over as they are. A wrapper around each would cost a further call, which counts
        # for `publish_soon`: every message of a channel with a history comes through it.
        self.publish_soon = histories.publish_soon
        self.history = histories.read
        self.delete_history = histories.delete
        self.has_handed_out = histories.has_handed_out
        self.join = self._joining.join
        self.holding = self._open.holding
        self.left = self._open.left
        self.check_all = self._catch_up.check_all
        self.connected_anew = self._catch_up.connected_anew
        self.wait_until_ready = self._catch_up.wait_until_all_are_ready

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._joining.run(), name="joining")
            tasks.create_task(self._catch_up.run(), name="catch-up")
            tasks.create_task(self._open.run(), name="unsubscribe")

    def options(self, name: str) -> ChannelOptions:
        return self._rules.of(DIRECT if name.startswith(USER_PREFIX) else name)

    @property
    def lost(self) -> Counter[str]:
        """The number of losses that members had to be told of, by reason."""
        return self._members.lost

    @property
    def repaired(self) -> int:
        """The number of entries that were missed, and read."""
        return self._catch_up.repaired

    def entry_received(self, key: str, entry: Entry, /) -> None:
        """Hand out a message of a channel with history that the broker has received."""
        channel = self._channels.get(channel_of(key))
        if channel is None or channel.feed is None:
            return
        self._members.send(channel, channel.feed.receive(entry))
        if not channel.feed.live:
            self._catch_up.add(channel)
