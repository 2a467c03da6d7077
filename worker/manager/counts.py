"""The counters of a worker, and the statistics that they are part of."""

from collections import Counter
from dataclasses import dataclass, field

from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.channels.channels import Channels
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.manager.statistics import WorkerStatistics, top


@dataclass
class Counts:
    """Counters that start at 0 with the process."""

    messages_in: int = 0  # from clients
    closes: Counter[str] = field(default_factory=Counter)  # ended connections, by reason
    refusals: Counter[str] = field(default_factory=Counter)  # refused handshakes and messages, by reason


class StatisticsSource:
    """Takes the statistics of this worker, from its counters and from its parts."""

    def __init__(
        self, worker_id: str, node_id: str, *, counts: Counts, broker: MessageBroker, fanout: Fanout, channels: Channels
    ) -> None:
        self._worker_id = worker_id
        self._node_id = node_id
        self._counts = counts
        self._broker = broker
        self._fanout = fanout
        self._channels = channels

    def statistics(self, listed: int = 0) -> WorkerStatistics:
        """Return the statistics of this worker, with up to `listed` of its largest users and channels."""
        return WorkerStatistics(
            worker_id=self._worker_id,
            node_id=self._node_id,
            mode=self._broker.health.mode,
            connections=len(self._fanout),
            messages_in=self._counts.messages_in,
            messages_out=self._fanout.sent,
            users=self._fanout.users,
            channels=self._fanout.channels,
            closes=dict(self._counts.closes),
            refusals=dict(self._counts.refusals),
            repaired=self._channels.repaired,
            losses=dict(self._channels.lost),
            broker=self._broker.statistics,
            top_users=top(self._fanout.user_sizes(), listed) if listed else [],
            top_channels=top(self._fanout.channel_sizes(), listed) if listed else [],
        )
