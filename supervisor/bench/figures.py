"""The figures of `wsd bench`, and how they are computed from what was measured. Pure."""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from wsd.supervisor.percentile import percentile

BUCKETS_PER_DECADE = 4
"""Buckets of the histogram for each factor of 10: 1, 1.8, 3.2, 5.6, 10 ms."""

LEAST_SECONDS = 0.0001
"""Shorter latencies are counted in the bucket of this one."""

LOAD_LIMIT_PERCENT = 80.0
"""CPU of our own load, in percent of a core, above which the load and not the cluster limits the result."""


class Latency(Struct, frozen=True):
    """Milliseconds from the time at which a message was due to its delivery."""

    p50: float
    p95: float
    p99: float
    most: float


class Bucket(Struct, frozen=True):
    """One bar of the histogram: deliveries below `below_ms`, and not below the limit of the bucket before."""

    below_ms: float
    count: int


class Figures(Struct, frozen=True, kw_only=True):
    """The result of `wsd bench`, as `--json` prints it."""

    connections: int
    channels: int
    rate: float  # requested messages per second
    payload_bytes: int
    seconds: float
    connected: int
    connects_per_second: float
    connect_p50_ms: float
    connect_p99_ms: float
    published: int
    expected: int
    delivered: int
    deliveries_per_second: float
    latency: Latency | None
    histogram: list[Bucket]
    failed_handshakes: dict[str, int]  # count by reason
    refused: dict[str, int]  # messages that were answered with an error: count by error code
    lost: dict[str, int]  # connections: count by close code
    cpu_us_per_delivery: dict[str, float]  # microseconds of workers, nginx, valkey and load
    load_cpu_percent: float

    @property
    def passed(self) -> bool:
        return self.delivered == self.expected > 0 and not (self.failed_handshakes or self.refused or self.lost)

    @property
    def load_is_the_limit(self) -> bool:
        return self.load_cpu_percent > LOAD_LIMIT_PERCENT


def latency(seconds: Sequence[float]) -> Latency | None:
    """Summarize latencies; None if there are none."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    p50, p95, p99 = (percentile(ordered, share) * 1000 for share in (0.50, 0.95, 0.99))
    return Latency(p50, p95, p99, ordered[-1] * 1000)


def histogram(seconds: Sequence[float]) -> list[Bucket]:
    """Count latencies in buckets whose limits grow by a constant factor, from the first that has any to the last."""
    counts: dict[int, int] = {}
    for value in seconds:
        number = math.floor(math.log10(max(value, LEAST_SECONDS) * 1000) * BUCKETS_PER_DECADE) + 1
        counts[number] = counts.get(number, 0) + 1
    if not counts:
        return []
    return [
        Bucket(float(f"{10 ** (number / BUCKETS_PER_DECADE):.2g}"), counts.get(number, 0))
        for number in range(min(counts), max(counts) + 1)
    ]


def per_delivery(before: Mapping[str, float], after: Mapping[str, float], deliveries: int) -> dict[str, float]:
    """Return the CPU time of each group of processes in microseconds per delivery.

    `before` and `after` are the CPU seconds of each group at the beginning and at the end.
    """
    if not deliveries:
        return {}
    return {name: (after[name] - before[name]) * 1e6 / deliveries for name in before if name in after}
