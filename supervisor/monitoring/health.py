"""Decide from its signs of life whether a process is healthy. Pure.

A process is hung when it has sent no heartbeat for too long and does not answer a direct request either. It is stalled
when it answers, but its answer holds no newer heartbeat. A Redis outage alone makes all heartbeats stale, and must not
restart any process. Nor must a supervisor that was itself stopped for a while: after that, all silences are counted
from zero (`Pulse.restart_silence`).
"""

import random
from dataclasses import dataclass
from enum import StrEnum

from wsd.supervisor.processes.clock import LATE_SECONDS
from wsd.supervisor.processes.pulse import Pulse


class Verdict(StrEnum):
    """A judgement on a process. The last four are on processes that work, but should be replaced."""

    HEALTHY = "healthy"
    PROBE = "probe"  # its heartbeat is late: ask it directly
    HUNG = "hung"
    STALLED = "stalled"  # it answers, but its background work has stopped
    ZOMBIE = "zombie"
    MAX_RSS = "max_rss"  # it uses more memory than allowed
    DEAF = "deaf"  # it receives nothing from Redis, see Heartbeat.deaf
    MAX_AGE = "max_age"  # it is older than allowed
    MAX_MESSAGES = "max_messages"  # it has handled more messages than allowed


@dataclass(frozen=True)
class Limits:
    """The limits that verdicts are based on. Times are in seconds, `max_rss` in bytes; 0 means no limit."""

    heartbeat_timeout: float
    probe_timeout: float
    max_rss: int = 0
    max_age: float = 0.0
    max_messages: int = 0

    @property
    def suspect_after(self) -> float:
        """The age of a heartbeat, in seconds, from which on the process is probed.

        A probe that starts then has timed out when the heartbeat times out.
        """
        return max(self.heartbeat_timeout - self.probe_timeout, self.heartbeat_timeout / 2)

    @property
    def late_after(self) -> float:
        """The seconds by which the supervisor itself may be late, see AwakeClock. Well below the timeout of a probe."""
        return min(LATE_SECONDS, self.probe_timeout / 2)


@dataclass(frozen=True)
class Observation:
    """The facts about one process at one moment that its verdict depends on. Ages are in seconds."""

    heartbeat_age: float  # since its last new heartbeat, or since it became ready
    silence_confirmed: float = 0.0  # heartbeat_age when it last answered a probe without a newer heartbeat
    probing_for: float | None = None  # since a probe was sent that is still unanswered
    zombie: bool = False  # its main thread has ended, other threads keep the process
    rss: int = 0  # bytes
    age: float = 0.0  # since it was started
    messages: int = 0  # received and sent
    jitter: float = 1.0  # factor for the limits of age and messages, see jitter()
    deaf: bool = False  # it reports that it receives nothing from Redis, while other workers of the node do


def observe(pulse: Pulse, now: float, *, zombie: bool, rss: int, others_subscribed: bool) -> Observation:
    """Return what is known about a process at `now`.

    `others_subscribed` means that another worker of the node receives messages from Redis.
    """
    beat = pulse.beat
    return Observation(
        heartbeat_age=now - pulse.seen_at,
        silence_confirmed=pulse.silence_confirmed,
        probing_for=now - pulse.probing_since if pulse.probing_since is not None else None,
        zombie=zombie,
        rss=rss,
        age=beat.uptime if beat is not None else 0.0,
        messages=beat.messages_in + beat.messages_out if beat is not None else 0,
        jitter=jitter(beat.worker_id) if beat is not None else 1.0,
        deaf=beat is not None and beat.deaf and others_subscribed,
    )


def verdict(seen: Observation, limits: Limits) -> Verdict:
    """Return the most urgent verdict that holds."""
    if seen.zombie:
        return Verdict.ZOMBIE
    if seen.heartbeat_age > limits.suspect_after:
        unanswered = seen.probing_for is not None and seen.probing_for >= limits.probe_timeout
        if seen.heartbeat_age > limits.heartbeat_timeout and unanswered:
            return Verdict.HUNG
        if seen.silence_confirmed > limits.heartbeat_timeout:
            return Verdict.STALLED
        return Verdict.PROBE
    # The process works. Should it be replaced?
    if limits.max_rss and seen.rss > limits.max_rss:
        return Verdict.MAX_RSS
    if seen.deaf:
        return Verdict.DEAF
    if limits.max_age and seen.age > limits.max_age * seen.jitter:
        return Verdict.MAX_AGE
    if limits.max_messages and seen.messages > limits.max_messages * seen.jitter:
        return Verdict.MAX_MESSAGES
    return Verdict.HEALTHY


def jitter(worker_id: str) -> float:
    """Return a factor from 0.8 to 1.2 that is always the same for one worker process.

    It spreads out the replacement of processes that were started at the same time.
    """
    return random.Random(worker_id).uniform(0.8, 1.2)
