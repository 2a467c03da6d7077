"""The number of workers that a node needs for its load. `deploys.autoscaler` observes the load and acts. Pure.

Workers are added at once, and taken away slowly, one at a time: a load that swings would otherwise move clients to and
fro. Nothing is decided while it is uncertain what the workers can carry, see `ScalingPolicy.wait`.
"""

import math
from collections import deque
from dataclasses import dataclass

from wsd.supervisor.config.settings import ScaleConfig
from wsd.supervisor.counts import count

CPU_SECONDS = 30.0
"""The time over which the CPU use of the workers is averaged. A garbage collection must not start a worker."""

QUIET = 0.7
"""A worker is taken away if the others had at most this part of their target then. With more, the next few clients
would bring the worker back."""

SETTLED_SECONDS = 5.0
"""How long the number of workers must have been enough before connections move to the new ones."""

RETRY_SECONDS = 60.0
"""How long nothing is tried after a failure, such as that of an application that does not start."""


@dataclass(frozen=True)
class Load:
    """The load of the workers of a node at one moment. `cpu` is the CPU use of all of them, in cores."""

    workers: int
    connections: int
    most_connections: int  # of one worker
    cpu: float


@dataclass(frozen=True)
class Resize:
    """The decision to have another number of workers."""

    workers: int
    reason: str


@dataclass(frozen=True)
class Spread:
    """The decision to move connections to the workers that were added."""


class ScalingPolicy:
    """Decides how many workers there are. Times are seconds of the caller's clock.

    `waits_for` says why nothing is decided at present, and `last` what was decided last; both are for `wsd status`.
    """

    def __init__(self) -> None:
        self.waits_for: str | None = None
        self.last: str | None = None
        self.is_overloaded = False  # more workers are needed than scale.max allows
        self._cpu: deque[tuple[float, float]] = deque()  # when, and cores
        self._quiet_since: float | None = None
        self._spread_after: float | None = None
        self._retry_at = 0.0

    def wait(self, reason: str) -> None:
        """Decide nothing for the moment, and observe anew from then on."""
        self.waits_for = reason
        self.is_overloaded = False
        self._observe_anew()

    def decide(self, load: Load, config: ScaleConfig, now: float) -> Resize | Spread | None:
        """Take note of the load, and return what to do. The caller tells the end of it with `ended`."""
        self.waits_for = None
        cpu = self._average_cpu(load.cpu, now)
        needed, reason = _needed(load, cpu, config)
        self.is_overloaded = needed > config.max
        if now < self._retry_at:
            self.waits_for = "the last attempt failed"
            return None
        if not config.min <= load.workers <= config.max:
            key = "min" if load.workers < config.min else "max"
            workers = getattr(config, key)
            return self._resize(load, workers, f"scale.{key} is {workers}")
        if needed > load.workers and load.workers < config.max:
            return self._resize(load, min(needed, config.max), reason)
        if self._is_time_to_spread(load, config, now):
            return Spread()
        return self._fewer(load, cpu, config, now)

    def ended(self, decision: Resize | Spread, load: Load, now: float, *, failed: bool) -> None:
        """Take note that a decision was carried out, or that this failed. `load` was that of the decision."""
        self._observe_anew()
        if failed:
            self._retry_at = now + RETRY_SECONDS
        elif isinstance(decision, Resize):
            self._spread_after = now + SETTLED_SECONDS if decision.workers > load.workers else None

    def _observe_anew(self) -> None:
        self._cpu.clear()
        self._quiet_since = None

    def _average_cpu(self, cpu: float, now: float) -> float | None:
        """Return the average CPU use of the last CPU_SECONDS, in cores, or None until that time has passed."""
        self._cpu.append((now, cpu))
        is_full = now - self._cpu[0][0] >= CPU_SECONDS
        while now - self._cpu[0][0] > CPU_SECONDS:
            self._cpu.popleft()
        return sum(cores for _, cores in self._cpu) / len(self._cpu) if is_full else None

    def _resize(self, load: Load, workers: int, reason: str) -> Resize:
        self.last = f"from {load.workers} to {count(workers, 'worker')}: {reason}"
        return Resize(workers, reason)

    def _is_time_to_spread(self, load: Load, config: ScaleConfig, now: float) -> bool:
        """Tell whether workers that were added are to take connections of the others. True once for each addition."""
        if self._spread_after is None or now < self._spread_after:
            return False
        self._spread_after = None
        target = config.connections_per_worker
        return not target or load.most_connections > target

    def _fewer(self, load: Load, cpu: float | None, config: ScaleConfig, now: float) -> Resize | None:
        """Return the decision to take a worker away, or None."""
        fewer = load.workers - 1
        if fewer < config.min or not _is_quiet(load, cpu, config, fewer):
            self._quiet_since = None
            return None
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since < config.down_after:
            return None
        return self._resize(load, fewer, f"{count(fewer, 'worker')} would have been enough for {config.down_after:g} s")


def _needed(load: Load, cpu: float | None, config: ScaleConfig) -> tuple[int, str]:
    """Return how many workers the load needs, and why. `cpu` is its average in cores, None if it is unknown."""
    by_connections = by_cpu = 0
    if config.connections_per_worker:
        by_connections = math.ceil(load.connections / config.connections_per_worker)
    if config.cpu and cpu is not None:
        by_cpu = math.ceil(round(cpu / config.cpu, 6))
    if by_connections >= by_cpu:
        each = load.connections / load.workers
        reason = f"{each:.0f} connections each, scale.connections_per_worker is {config.connections_per_worker}"
        return by_connections, reason
    assert cpu is not None
    return by_cpu, f"{cpu / load.workers:.2f} of a core each, scale.cpu is {config.cpu:g}"


def _is_quiet(load: Load, cpu: float | None, config: ScaleConfig, workers: int) -> bool:
    """Tell whether `workers` would have at most QUIET of their targets."""
    if config.connections_per_worker and load.connections > QUIET * config.connections_per_worker * workers:
        return False
    return not config.cpu or (cpu is not None and cpu <= QUIET * config.cpu * workers)
