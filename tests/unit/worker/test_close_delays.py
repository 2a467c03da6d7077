"""A drain spreads its closes: not all at once, and never beyond its end."""

import random

import pytest

from wsd.worker.delivery.close_delays import CLOSES_PER_SECOND, close_delays


@pytest.mark.parametrize(
    ("count", "drain_seconds", "latest"),
    [(1, 30, 0), (2, 30, 1 / CLOSES_PER_SECOND), (101, 30, 1.0), (100_000, 30, 30), (500, 0, 0)],
)
def test_few_connections_close_quickly_and_many_take_the_whole_drain(
    count: int, drain_seconds: float, latest: float
) -> None:
    delays = close_delays(count, drain_seconds, random.Random(1))
    assert len(delays) == count
    assert all(0 <= delay <= latest for delay in delays)
    if count > 100 and latest:
        assert max(delays) > 0.9 * latest


def test_each_second_gets_its_share() -> None:
    delays = close_delays(30_000, 30, random.Random(1))
    for second in range(30):
        assert 800 < sum(second <= delay < second + 1 for delay in delays) < 1200
