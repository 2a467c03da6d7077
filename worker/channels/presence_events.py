"""Telling the members of a channel who comes and goes, where the channel's options say so.

Changes within 250 ms are sent as one event, e.g. thousands of members that leave during a drain. A worker that dies
sends nothing. So each of the other workers tells its own members, once for each channel, when the heartbeat of the dead
worker has been missing for long enough.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from wsd.worker.background.containment import run_repeatedly
from wsd.worker.channels.presence import Presence
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.wire import messages as wire
from wsd.worker.wire.messages import Member

GATHER_SECONDS = 0.25
"""How long changes gather before they are sent."""

LISTED = 100
"""Members named in an event. Its counts are of all."""

GONE_AFTER_SECONDS = 2.5
"""How long a heartbeat must be missing while Redis answers. After Redis was away, workers need a moment to write their
heartbeats again."""


@dataclass
class _Changes:
    joined: dict[str, Member] = field(default_factory=dict)  # by the connection's key
    left: dict[str, Member] = field(default_factory=dict)


class Absences:
    """Finds out which workers have gone, from the sets of those that live. Pure."""

    def __init__(self) -> None:
        self._live: frozenset[str] = frozenset()
        self._missing: dict[str, float] = {}

    def gone(self, live: frozenset[str], now: float) -> list[str]:
        """Return the workers that have been missing for long enough by now, each once."""
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
    """The sender of presence events. `run` must run.

    An event is sent once or, if that fails, not at all: it is news, and not a state that must be written.
    """

    def __init__(
        self,
        presence: Presence,
        publish: Callable[[str, bytes], Awaitable[object]],
        send_here: Callable[[str, bytes], object],
    ) -> None:
        """`publish` sends to the members of a channel on all workers, `send_here` to those on this worker."""
        self._presence = presence
        self._publish = publish
        self._send_here = send_here
        self._changes: dict[str, _Changes] = {}
        self._absences = Absences()
        self._gone: asyncio.Queue[tuple[str, str]] = asyncio.Queue()  # channel, worker
        self._wake = asyncio.Event()

    def joined(self, channel: str, key: str, member: Member) -> None:
        """Announce a new member soon. `key`: unique among this worker's connections."""
        changes = self._changes.setdefault(channel, _Changes())
        if changes.left.pop(key, None) is None:  # a member that leaves and returns within a moment did neither
            changes.joined[key] = member
        self._wake.set()

    def left(self, channel: str, key: str, member: Member) -> None:
        """Announce soon that a member has left."""
        changes = self._changes.setdefault(channel, _Changes())
        if changes.joined.pop(key, None) is None:
            changes.left[key] = member
        self._wake.set()

    def workers_seen(self, live: frozenset[str], channels: Iterable[str]) -> None:
        """Note which workers have a heartbeat now, and which channels with members here want events."""
        gone = self._absences.gone(live, time.monotonic())
        if gone:
            for channel in channels:
                for worker in gone:
                    self._gone.put_nowait((channel, worker))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_repeatedly(self._publish_changes, "presence events"), name="presence-events")
            tasks.create_task(
                run_repeatedly(self._announce_the_dead, "presence events of the dead"), name="presence-of-the-dead"
            )

    async def _publish_changes(self) -> None:
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

    async def _announce_the_dead(self) -> None:
        while True:
            channel, worker = await self._gone.get()
            try:
                count, members = await self._presence.of_worker(channel, worker, LISTED)
            except RedisUnavailableError:
                continue
            if count:
                self._send_here(channel, wire.encode(wire.PresenceChanged(channel, [], members, 0, count)))
