"""The pace at which a worker closes many connections, so that their clients do not all reconnect in one second."""

import random

CLOSES_PER_SECOND = 100
"""The pace for a few connections. Many are closed faster, to be gone in time."""


def close_delays(count: int, longest: float, rng: random.Random) -> list[float]:
    """Return when to close each of `count` connections, in seconds from now: random times of at most `longest`.

    A few connections are closed quickly, many take all the time. So an idle cluster stops at once, and a full one does
    not send all clients to its neighbours in the same second.
    """
    spread = min(longest, (count - 1) / CLOSES_PER_SECOND)
    return [rng.uniform(0, spread) for _ in range(count)]
