"""Version numbers, as numbers that can be compared."""


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version: (7, 2, 4) for `7.2.4`."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
