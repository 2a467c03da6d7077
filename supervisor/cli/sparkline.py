"""Line charts of one line of text, one character per value."""

from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Draw the last `width` values, on a scale from 0 to the largest of them. A value of None is a gap.

    The result is always `width` characters wide; with fewer values it is padded on the left.
    """
    shown = values[-width:] if width else []
    highest = max((value for value in shown if value is not None), default=0.0)
    return "".join(_character(value, highest) for value in shown).rjust(width)


def _character(value: float | None, highest: float) -> str:
    if value is None:
        return " "
    if highest <= 0:
        return LEVELS[0]
    return LEVELS[min(len(LEVELS) - 1, int(max(0.0, value) / highest * len(LEVELS)))]
