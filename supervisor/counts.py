"""Numbers of things in texts for people."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 worker`, `2 workers`, `2 processes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"
