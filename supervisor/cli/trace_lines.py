"""The lines of `wsd trace`: the events of a session's connections, merged with events of the node around their ends."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wsd.worker.contract.events import Event

BEFORE_SECONDS, AFTER_SECONDS = 40.0, 5.0
"""Seconds around the end of a connection from which events are shown.

A drain may take 30 seconds from the command to the last close.
"""

ENDS = ("closed", "last seen")
"""The events of a connection that may be its last."""


def session_lines(sessions: Sequence[dict[str, Any]], events: Sequence[Event], node_id: str) -> Iterator[str]:
    """Yield the lines for these sessions. `events` are the events of this node, the oldest first."""
    for session in sessions:
        yield f"session {session['session_id']} of {session['user_id']}, {session['state']}"
        lines = [
            (happened["at"], happened["worker_id"], f"{happened['what']} {happened['detail']}".rstrip())
            for happened in session["events"]
        ]
        lines += [(event.at, event.source, f"({event.text})") for event in beside(session["events"], events, node_id)]
        for at, where, text in sorted(lines):
            yield f"  {_clock(at)}  {where:<15} {text}"


def beside(happened: Iterable[dict[str, Any]], events: Iterable[Event], node_id: str) -> list[Event]:
    """Return the events of the supervisor, and of a connection's worker, around each end of a connection on this node.

    Pure.
    """
    ends = [
        (each["at"], "-".join(each["worker_id"].split("-")[:2]))
        for each in happened
        if each["what"] in ENDS and each["node_id"] == node_id
    ]
    return [
        event
        for event in events
        if any(
            at - BEFORE_SECONDS <= event.at <= at + AFTER_SECONDS and event.source in ("supervisor", slot)
            for at, slot in ends
        )
    ]


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03}"
