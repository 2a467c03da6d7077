"""Percentiles of measured values."""

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of all values do not exceed: the nearest rank.

    `ordered` is sorted, the smallest value first. The result is 0 if there are no values.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
