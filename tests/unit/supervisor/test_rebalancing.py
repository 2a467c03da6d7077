"""The workers that have more connections than their share, and by how many."""

import pytest

from wsd.supervisor.deploys.rebalancing import surplus


@pytest.mark.parametrize(
    ("connections", "expected"),
    [
        ({}, {}),
        ({"a": 0, "b": 0}, {}),
        ({"a": 1, "b": 0}, {}),  # one cannot be shared
        ({"a": 2, "b": 0}, {"a": 1}),
        ({"a": 40, "b": 0}, {"a": 20}),
        ({"a": 1000, "b": 1000, "c": 0, "d": 0}, {"a": 500, "b": 500}),
        ({"a": 105, "b": 95}, {}),  # not worth a move
        ({"a": 106, "b": 94}, {"a": 6}),
        ({"a": 10, "b": 10, "c": 11}, {}),
    ],
)
def test_a_worker_gives_away_the_connections_beyond_its_share(
    connections: dict[str, int], expected: dict[str, int]
) -> None:
    assert surplus(connections) == expected
