"""The pace at which a worker sends clients away: they all come back somewhere, and must not do so in one second."""

import random

CLOSES_PER_SECOND = 100
"""While there are few; many must be gone in time."""


def close_delays(count: int, longest: float, rng: random.Random) -> list[float]:
    """When to close each of `count` connections, in seconds from now, at random and evenly over `longest` at most.

    A few go quickly, many take all of it: so an idle cluster stops at once, and a full one does not send everybody to
    its neighbours in the same second.
    """
    spread = min(longest, (count - 1) / CLOSES_PER_SECOND)
    return [rng.uniform(0, spread) for _ in range(count)]
