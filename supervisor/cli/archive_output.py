"""The output of `wsd archive`."""

import time
from typing import Any

from wsd.supervisor.cli.duration import duration
from wsd.supervisor.counts import count
from wsd.supervisor.machine.terminal import say


def show_archive(answer: dict[str, Any]) -> None:
    """Print what the archive holds."""
    now = time.time()
    size = f"{answer['bytes'] / 1_000_000:.1f} MB"
    say(f"{count(answer['messages'], 'message')} in {count(answer['channels'], 'channel')}, {size}")
    if answer["oldest"] is not None:
        oldest, newest = (duration(max(0.0, now - answer[key])) for key in ("oldest", "newest"))
        say(f"oldest: {oldest} ago, newest: {newest} ago")
    if answer["waiting"]:
        say(f"waiting: {count(answer['waiting'], 'channel')}, the first for {duration(answer['waiting_seconds'])}")
    if answer["lost"]:
        say(f"lost: {count(answer['lost'], 'message')} expired in Redis before they were archived")
        for channel, lost in answer["holes"].items():
            say(f"  {channel}: {lost}")
