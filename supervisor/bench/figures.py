"""What `wsd bench` measured, and how it is summed up. Pure."""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

BUCKETS_PER_DECADE = 4
"""Of the histogram: 1, 1.8, 3.2, 5.6, 10 ms."""

LEAST_SECONDS = 0.0001
"""What is quicker is counted with it."""

LOAD_IS_THE_LIMIT = 80.0
"""Percent of a core that our own load uses, from which on it measures itself."""


class Latency(Struct, frozen=True):
    """Milliseconds, from when a message was due to when it came."""

    p50: float
    p95: float
    p99: float
    most: float


class Bucket(Struct, frozen=True):
    below_ms: float
    count: int


class Figures(Struct, frozen=True, kw_only=True):
    """`failed_handshakes`, `refused` and `lost` are counts by reason; CPU is in microseconds a delivery."""

    connections: int
    channels: int
    rate: float  # messages a second that were wanted
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
    failed_handshakes: dict[str, int]
    refused: dict[str, int]
    lost: dict[str, int]
    cpu_us_per_delivery: dict[str, float]  # workers, nginx, valkey, load
    load_cpu_percent: float

    @property
    def passed(self) -> bool:
        return self.delivered == self.expected > 0 and not (self.failed_handshakes or self.refused or self.lost)

    @property
    def load_is_the_limit(self) -> bool:
        return self.load_cpu_percent > LOAD_IS_THE_LIMIT


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value that `part` of them do not exceed (nearest rank); 0 of none. `ordered`: the smallest first."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else 0.0


def latency(seconds: Sequence[float]) -> Latency | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    p50, p95, p99 = (percentile(ordered, part) * 1000 for part in (0.50, 0.95, 0.99))
    return Latency(p50, p95, p99, ordered[-1] * 1000)


def histogram(seconds: Sequence[float]) -> list[Bucket]:
    """Counts by buckets that grow by a constant factor, from the first that has any to the last."""
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
    """CPU seconds before and after, by group of processes, as microseconds a delivery."""
    if not deliveries:
        return {}
    return {name: (after[name] - before[name]) * 1e6 / deliveries for name in before if name in after}
