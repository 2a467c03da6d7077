"""Is a process well? From what was observed to what should be done: a pure decision.

Hung means: no heartbeat for too long AND no answer to a direct request. A Redis outage alone makes heartbeats
stale and must restart nobody; so must a supervisor that itself stood still for a while.
"""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    HEALTHY = "healthy"
    PROBE = "probe"  # ask it directly
    HUNG = "hung"
    OVERWEIGHT = "overweight"
    ZOMBIE = "zombie"


@dataclass(frozen=True)
class Limits:
    """Seconds, and bytes for `max_rss` (0: no limit)."""

    heartbeat_timeout: float
    probe_timeout: float
    max_rss: int = 0

    @property
    def suspect_after(self) -> float:
        """When to begin to probe, so that a hung process is known as soon as its heartbeat has timed out."""
        return max(self.heartbeat_timeout - self.probe_timeout, self.heartbeat_timeout / 2)


@dataclass(frozen=True)
class Observation:
    """Of one process, at one moment; ages in seconds."""

    heartbeat_age: float  # since its heartbeat last changed, or since it became ready
    answer_age: float | None = None  # since it last answered a probe, None: never asked
    probing_for: float | None = None  # since the probe that is still unanswered was sent
    zombie: bool = False  # the main thread is gone, others keep the process
    rss: int = 0


def verdict(seen: Observation, limits: Limits) -> Verdict:
    if seen.zombie:
        return Verdict.ZOMBIE
    if limits.max_rss and seen.rss > limits.max_rss:
        return Verdict.OVERWEIGHT
    silent_for = min(seen.heartbeat_age, seen.answer_age if seen.answer_age is not None else float("inf"))
    if silent_for <= limits.suspect_after:
        return Verdict.HEALTHY
    unanswered = seen.probing_for is not None and seen.probing_for >= limits.probe_timeout
    if silent_for > limits.heartbeat_timeout and unanswered:
        return Verdict.HUNG
    return Verdict.PROBE
