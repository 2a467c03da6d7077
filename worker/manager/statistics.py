"""The statistics of a worker, and their sums over all workers.

Workers are asked for their statistics over the broker, so nothing has to be kept up to date in Redis.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from wsd.worker.broker.message_broker import BrokerStatistics

MAX_LISTED = 1000
"""How many of its largest users and channels a worker names at most."""


class Counted(Struct, frozen=True):
    """A user or a channel, and the number of its connections."""

    name: str
    connections: int


class WorkerStatistics(Struct, frozen=True, kw_only=True):
    """The statistics of one worker. Counters start at 0.

    `users` and `channels` are numbers; `top_users` and `top_channels` name the largest of them.
    """

    worker_id: str
    node_id: str
    mode: str
    connections: int
    messages_in: int
    messages_out: int
    users: int
    channels: int
    closes: dict[str, int]  # by reason
    refusals: dict[str, int]  # of handshakes and messages, by reason
    repaired: int  # messages that this worker missed, and read from a history
    losses: dict[str, int]  # of messages, by reason; members were told of each
    broker: BrokerStatistics
    top_users: list[Counted] = []
    top_channels: list[Counted] = []


class ClusterStatistics(Struct, frozen=True, kw_only=True):
    """The sums over all workers. `complete` is False when some did not answer in time."""

    complete: bool
    connections: int
    messages_in: int
    messages_out: int
    workers: list[WorkerStatistics]
    users: list[Counted]  # a page of the largest
    channels: list[Counted]


class AskStatistics(Struct, frozen=True, tag="ask_statistics"):
    """The question of one worker to all workers."""

    asker: str  # worker id
    question: str
    listed: int  # how many users and channels to name


class Answer(Struct, frozen=True, tag="statistics"):
    """The answer of a worker to AskStatistics."""

    question: str
    statistics: WorkerStatistics


def top(groups: Iterable[tuple[str, int]], count: int) -> list[Counted]:
    """Return the largest groups. Groups of one size are in the order of their names."""
    return [Counted(name, size) for name, size in sorted(groups, key=lambda group: (-group[1], group[0]))[:count]]


def merge(workers: Iterable[WorkerStatistics], *, complete: bool, offset: int, limit: int) -> ClusterStatistics:
    """Add up the statistics of workers, with one page of their users and channels, the largest first. Pure."""
    listed = sorted(workers, key=lambda worker: worker.worker_id)
    users: Counter[str] = Counter()
    channels: Counter[str] = Counter()
    for worker in listed:
        users.update({user.name: user.connections for user in worker.top_users})
        channels.update({channel.name: channel.connections for channel in worker.top_channels})
    return ClusterStatistics(
        complete=complete,
        connections=sum(worker.connections for worker in listed),
        messages_in=sum(worker.messages_in for worker in listed),
        messages_out=sum(worker.messages_out for worker in listed),
        workers=[msgspec.structs.replace(worker, top_users=[], top_channels=[]) for worker in listed],
        users=top(users.items(), offset + limit)[offset:],
        channels=top(channels.items(), offset + limit)[offset:],
    )
