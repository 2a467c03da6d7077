"""The events of a node, from the file in which the supervisor and the workers write them."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from wsd.supervisor.logs.follow import LogFollower
from wsd.supervisor.logs.reading import Choice, lines
from wsd.worker.contract.events import Event


def read_events(path: Path, choice: Choice, last: int, *, follow: bool) -> Iterator[Event]:
    """Yield events from the file `path`, as `lines` does for logs."""
    for line in lines({"events": path}, choice, last, follow=follow):
        yield from parse_events([line.text])


class EventFollower:
    """A reader of the events that are appended to the file of events from now on."""

    def __init__(self, path: Path) -> None:
        self._follower = LogFollower({"events": path})

    def new(self) -> Iterator[Event]:
        """Yield the events since the last call."""
        return parse_events(text for _, text in self._follower.lines())


def parse_events(texts: Iterable[str]) -> Iterator[Event]:
    """Yield the events in these lines. Lines that are no events are skipped."""
    for text in texts:
        try:
            yield Event.from_json(text)
        except ValueError:
            continue  # e.g. a line that a full disk cut short


def show_event(event: Event) -> str:
    """Return an event as a line for people, in local time."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
    return f"{when}  {event.level:<8} {event.source:<10} {event.text}"
