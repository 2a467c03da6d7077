"""Durations as text for tables."""


def duration(seconds: float | None) -> str:
    """Format seconds as `42s`, `3m12s`, `5h02m` or `3d04h`; None as `-`."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"
