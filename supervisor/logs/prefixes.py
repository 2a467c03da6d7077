"""The coloured prefixes by which lines of several logs are told apart."""

from collections.abc import Collection, Mapping
from typing import TextIO

COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
"""SGR codes of ECMA-48, one for each log in turn."""

RESET = "\x1b[0m"


def use_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether to colour the output: only on a terminal, and never with NO_COLOR (no-color.org)."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb" and stream.isatty()


def prefixes(names: Collection[str], *, colour: bool) -> dict[str, str]:
    """Return the prefix for the lines of each log, all of the same width."""
    width = max(len(name) for name in names)
    found = {}
    for number, name in enumerate(names):
        label = f"{name:<{width}} | "
        found[name] = f"\x1b[{COLOURS[number % len(COLOURS)]}m{label}{RESET}" if colour else label
    return found
