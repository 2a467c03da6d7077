"""Is a process well? From what was observed to what should be done: a pure decision.

Hung means: no heartbeat for too long AND no answer to a direct request. Stalled means: it answers, and its answer has
no newer heartbeat. A Redis outage alone makes heartbeats stale and must restart nobody. A supervisor that itself stood
still for a while must restart nobody, either: then all silences begin anew (`Pulse.begin_anew`).
"""

import random
from dataclasses import dataclass
from enum import StrEnum

from wsd.supervisor.processes.clock import LATE_SECONDS
from wsd.worker.contract.heartbeat import Heartbeat


class Verdict(StrEnum):
    HEALTHY = "healthy"
    PROBE = "probe"  # ask it directly
    HUNG = "hung"
    STALLED = "stalled"  # it answers, but what works in its background has ended
    OVERWEIGHT = "overweight"
    OLD = "old"
    WORN = "worn"  # it has handled so many messages that a fresh one is wanted
    DEAF = "deaf"
    ZOMBIE = "zombie"


@dataclass(frozen=True)
class Limits:
    """Seconds, and bytes for `max_rss`. 0: no limit."""

    heartbeat_timeout: float
    probe_timeout: float
    max_rss: int = 0
    max_age: float = 0.0
    max_messages: int = 0

    @property
    def suspect_after(self) -> float:
        """When to begin to probe, so that a hung process is known as soon as its heartbeat has timed out."""
        return max(self.heartbeat_timeout - self.probe_timeout, self.heartbeat_timeout / 2)

    @property
    def late_after(self) -> float:
        """How late the watch itself may be: well within the time that a probe has for its answer."""
        return min(LATE_SECONDS, self.probe_timeout / 2)


@dataclass(frozen=True)
class Observation:
    """Of one process, at one moment; ages in seconds."""

    heartbeat_age: float  # since its heartbeat last changed, or since it became ready
    silence_confirmed: float = 0.0  # the heartbeat's age when it last answered a probe without a newer heartbeat
    probing_for: float | None = None  # since the probe that is still unanswered was sent
    zombie: bool = False  # the main thread is gone, others keep the process
    rss: int = 0
    age: float = 0.0  # since it was started
    messages: int = 0  # that it has taken and sent
    lot: float = 1.0  # of this process, from 0.8 to 1.2: processes of one age are not replaced at one time
    deaf: bool = False  # it says that it hears nothing of Redis, while others of its node do


def verdict(seen: Observation, limits: Limits) -> Verdict:
    if seen.zombie:
        return Verdict.ZOMBIE
    if seen.heartbeat_age > limits.suspect_after:
        unanswered = seen.probing_for is not None and seen.probing_for >= limits.probe_timeout
        if seen.heartbeat_age > limits.heartbeat_timeout and unanswered:
            return Verdict.HUNG
        if seen.silence_confirmed > limits.heartbeat_timeout:
            return Verdict.STALLED
        return Verdict.PROBE
    # It lives: should another take its place?
    if limits.max_rss and seen.rss > limits.max_rss:
        return Verdict.OVERWEIGHT
    if seen.deaf:
        return Verdict.DEAF
    if limits.max_age and seen.age > limits.max_age * seen.lot:
        return Verdict.OLD
    if limits.max_messages and seen.messages > limits.max_messages * seen.lot:
        return Verdict.WORN
    return Verdict.HEALTHY


def lot(worker_id: str) -> float:
    """From 0.8 to 1.2, always the same for one worker: so that processes of one age go one after the other."""
    return random.Random(worker_id).uniform(0.8, 1.2)


@dataclass
class Pulse:
    """What is known of one process's life since it became ready; times by the caller's monotonic clock."""

    seen_at: float  # its last sign of life without being asked
    silence_confirmed: float = 0.0  # see Observation
    probing_since: float | None = None  # the probe that is not answered yet
    beat: Heartbeat | None = None
    messages_in_rate: float | None = None  # per second, between the last two beats
    messages_out_rate: float | None = None
    refused_at: float | None = None  # when Redis was last seen to have refused a message

    def hear(self, beat: Heartbeat, now: float) -> None:
        """Take note of a heartbeat; one that was seen before is no sign of life."""
        before = self.beat
        if before is not None and before.worker_id == beat.worker_id:
            if beat.beat <= before.beat:
                return
            seconds = beat.uptime - before.uptime
            self.messages_in_rate = (beat.messages_in - before.messages_in) / seconds
            self.messages_out_rate = (beat.messages_out - before.messages_out) / seconds
        known = before.refused if before is not None and before.worker_id == beat.worker_id else 0
        if beat.refused > known:
            self.refused_at = now
        self.beat = beat
        self.seen_at = now
        self.silence_confirmed = 0.0

    def answer(self, beat: Heartbeat, now: float) -> None:
        """Take note of an answer to a probe. Only a heartbeat that is newer than the last one is a sign of life."""
        self.probing_since = None
        self.silence_confirmed = now - self.seen_at
        self.hear(beat, now)

    def begin_anew(self, now: float) -> None:
        """Forget every silence, and every question that is not answered yet."""
        self.seen_at = now
        self.silence_confirmed = 0.0
        self.probing_since = None

    def observe(self, now: float, *, zombie: bool, rss: int, others_hear: bool) -> Observation:
        beat = self.beat
        return Observation(
            heartbeat_age=now - self.seen_at,
            silence_confirmed=self.silence_confirmed,
            probing_for=now - self.probing_since if self.probing_since is not None else None,
            zombie=zombie,
            rss=rss,
            age=beat.uptime if beat is not None else 0.0,
            messages=beat.messages_in + beat.messages_out if beat is not None else 0,
            lot=lot(beat.worker_id) if beat is not None else 1.0,
            deaf=beat is not None and beat.deaf and others_hear,
        )
