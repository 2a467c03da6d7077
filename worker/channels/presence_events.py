"""Tells the members of a channel who comes and goes, where its options say so.

What happens in a moment goes out as one event: a drain of thousands, say. A worker that dies says nothing, so each of
the others tells its own members, once for each channel, when the heartbeat has been missing for long enough.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from wsd.worker.channels.presence import Presence
from wsd.worker.containment import run_repeatedly
from wsd.worker.redis_client import LOST
from wsd.worker.waiting import raise_if_cancelled
from wsd.worker.wire import messages as wire
from wsd.worker.wire.messages import Member

GATHER_SECONDS = 0.25

LISTED = 100
"""Members named in an event; its counts are of all."""

GONE_AFTER_SECONDS = 2.5
"""Missing for so long while Redis answers: after Redis was away, all need a moment to beat again."""


@dataclass
class _Changes:
    joined: dict[str, Member] = field(default_factory=dict)  # by the connection's key
    left: dict[str, Member] = field(default_factory=dict)


class Absences:
    """Which workers have gone, by the sets of those that live. Pure."""

    def __init__(self) -> None:
        self._live: frozenset[str] = frozenset()
        self._missing: dict[str, float] = {}

    def gone(self, live: frozenset[str], now: float) -> list[str]:
        """Those that have been missing for long enough, each once."""
        for worker in self._live - live:
            self._missing.setdefault(worker, now)
        for worker in live:
            self._missing.pop(worker, None)
        self._live = live
        found = [worker for worker, since in self._missing.items() if now - since >= GONE_AFTER_SECONDS]
        for worker in found:
            del self._missing[worker]
        return found


class PresenceEvents:
    """`run` must run."""

    def __init__(
        self,
        presence: Presence,
        publish: Callable[[str, bytes], Awaitable[object]],
        tell_here: Callable[[str, bytes], None],
    ) -> None:
        """`publish` to the members of a channel on all workers, `tell_here` those of this one."""
        self._presence = presence
        self._publish = publish
        self._tell_here = tell_here
        self._changes: dict[str, _Changes] = {}
        self._absences = Absences()
        self._gone: asyncio.Queue[tuple[str, str]] = asyncio.Queue()  # channel, worker
        self._wake = asyncio.Event()

    def joined(self, channel: str, key: str, member: Member) -> None:
        changes = self._changes.setdefault(channel, _Changes())
        if changes.left.pop(key, None) is None:  # who leaves and comes in a moment did neither
            changes.joined[key] = member
        self._wake.set()

    def left(self, channel: str, key: str, member: Member) -> None:
        changes = self._changes.setdefault(channel, _Changes())
        if changes.joined.pop(key, None) is None:
            changes.left[key] = member
        self._wake.set()

    def workers_seen(self, live: frozenset[str], channels: Iterable[str]) -> None:
        """The workers whose heartbeat is there now, and the channels with members here that want events."""
        gone = self._absences.gone(live, time.monotonic())
        if gone:
            for channel in channels:
                for worker in gone:
                    self._gone.put_nowait((channel, worker))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_repeatedly(self._publish_for_ever, "presence events"), name="presence-events")
            tasks.create_task(
                run_repeatedly(self._tell_of_the_dead, "presence events of the dead"), name="presence-of-the-dead"
            )

    async def _publish_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._wake.clear()
            changed, self._changes = self._changes, {}
            for channel, changes in changed.items():
                if changes.joined or changes.left:
                    joined, left = [*changes.joined.values()], [*changes.left.values()]
                    event = wire.PresenceChanged(channel, joined[:LISTED], left[:LISTED], len(joined), len(left))
                    await self._publish(channel, wire.encode(event))

    async def _tell_of_the_dead(self) -> None:
        while True:
            channel, worker = await self._gone.get()
            try:
                count, members = await self._presence.of_worker(channel, worker, LISTED)
            except LOST:
                raise_if_cancelled()
                continue
            if count:
                self._tell_here(channel, wire.encode(wire.PresenceChanged(channel, [], members, 0, count)))
