"""Percentiles are values that were measured: the nearest rank."""

import pytest

from wsd.supervisor.percentile import percentile


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, 0),
        ([7], 0.99, 7),
        ([1, 2, 3, 4], 0.0, 1),
        ([1, 2, 3, 4], 0.5, 2),
        ([1, 2, 3, 4], 0.75, 3),
        ([1, 2, 3, 4], 1.0, 4),
        (list(range(1, 101)), 0.5, 50),
        (list(range(1, 101)), 0.99, 99),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected
