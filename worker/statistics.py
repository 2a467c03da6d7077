"""What a worker counts, and the sums over all workers: each is asked over the broker, so there is nothing to keep up to
date in Redis.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from wsd.worker.message_broker import BrokerStatistics

MAX_LISTED = 1000
"""Users and channels that a worker names of itself: its largest."""

ANSWER_SECONDS = 1.0


class Counted(Struct, frozen=True):
    """A user or a channel, and its connections."""

    name: str
    connections: int


class WorkerStatistics(Struct, frozen=True, kw_only=True):
    """Counters start at 0. `users` and `channels` are how many there are, `top_*` the largest of them."""

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
    repaired: int  # messages that were missed, and read from a history
    losses: dict[str, int]  # times that members had to be told of one, by reason
    broker: BrokerStatistics
    top_users: list[Counted] = []
    top_channels: list[Counted] = []


class ClusterStatistics(Struct, frozen=True, kw_only=True):
    """`complete` is False when not all workers answered in time."""

    complete: bool
    connections: int
    messages_in: int
    messages_out: int
    workers: list[WorkerStatistics]
    users: list[Counted]  # a page of the largest
    channels: list[Counted]


class AskStatistics(Struct, frozen=True, tag="ask_statistics"):
    """From one worker to all."""

    asker: str  # worker id
    question: str
    listed: int  # how many users and channels to name


class Answer(Struct, frozen=True, tag="statistics"):
    question: str
    statistics: WorkerStatistics


def top(groups: Iterable[tuple[str, int]], count: int) -> list[Counted]:
    """The largest, by name where they are equal."""
    return [Counted(name, size) for name, size in sorted(groups, key=lambda group: (-group[1], group[0]))[:count]]


def merge(workers: Iterable[WorkerStatistics], *, complete: bool, offset: int, limit: int) -> ClusterStatistics:
    """Sums over workers, and one page of their users and channels, the largest first. Pure."""
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


class StatisticsExchange:
    """Asks all workers, and collects what they answer."""

    def __init__(self, worker_id: str, tell_all: Callable[[Any], Awaitable[object]]) -> None:
        """`tell_all` sends a message to every worker, this one included."""
        self._worker_id = worker_id
        self._tell_all = tell_all
        self._questions: dict[str, asyncio.Queue[WorkerStatistics]] = {}

    async def ask(self, workers: int, listed: int) -> tuple[list[WorkerStatistics], bool]:
        """The statistics of all who answer in time, and whether `workers` did."""
        question = secrets.token_hex(8)
        answers = self._questions[question] = asyncio.Queue()
        found: dict[str, WorkerStatistics] = {}
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._tell_all(AskStatistics(self._worker_id, question, min(listed, MAX_LISTED)))
                    while len(found) < workers:
                        answer = await answers.get()
                        found[answer.worker_id] = answer
        finally:
            del self._questions[question]
        return list(found.values()), len(found) >= workers

    def answered(self, answer: Answer) -> None:
        if (answers := self._questions.get(answer.question)) is not None:
            answers.put_nowait(answer.statistics)
