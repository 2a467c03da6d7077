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
    """The id of the user, or the name of the channel."""

    connections: int


class WorkerStatistics(Struct, frozen=True, kw_only=True):
    """The statistics of one worker. Counters start at 0 with the process."""

    worker_id: str
    node_id: str
    mode: str
    """How far messages reach."""

    connections: int
    messages_in: int
    messages_out: int
    users: int
    """The number of users with a connection."""

    channels: int
    """The number of channels with a member."""

    closes: dict[str, int]
    """Connections that ended, by reason."""

    refusals: dict[str, int]
    """Handshakes and messages that were refused, by reason."""

    repaired: int
    """Messages that this worker missed, and read from a history."""

    losses: dict[str, int]
    """Losses of messages, by reason. Members were told of each."""

    broker: BrokerStatistics
    """What the worker's broker has done."""

    top_users: list[Counted] = []
    """The users with most connections."""

    top_channels: list[Counted] = []
    """The channels with most members."""


class ClusterStatistics(Struct, frozen=True, kw_only=True):
    """The sums over all workers."""

    complete: bool
    """Whether all workers answered in time."""

    connections: int
    """Connections of all workers."""

    messages_in: int
    """Messages from clients to all workers."""

    messages_out: int
    """Messages from all workers to clients."""

    workers: list[WorkerStatistics]
    """The statistics of each worker."""

    users: list[Counted]
    """A page of the users with most connections."""

    channels: list[Counted]
    """A page of the channels with most members."""


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
