"""A flight recorder for each connection: its last events, for whoever asks later why it was closed."""

from typing import Any

from msgspec import Struct

MAX_EVENTS = 50
"""Of a connection; the first is kept, and the last."""

Event = tuple[float, str, str]
"""Seconds since the epoch; what happened; with what."""


class Flight(Struct, frozen=True, kw_only=True, array_like=True):
    """One connection of a session, from its beginning to its end, or until now."""

    session_id: str
    user_id: str
    worker_id: str
    node_id: str
    events: list[Event]


class SessionTrace(Struct, frozen=True, kw_only=True):
    """A session's connections, the first of them first. `state` is connected, detached or ended."""

    session_id: str
    user_id: str
    state: str
    flights: list[Flight]


def add_event(events: list[Event], event: Event) -> None:
    events.append(event)
    if len(events) > MAX_EVENTS:
        del events[1]


def shown(trace: SessionTrace) -> dict[str, Any]:
    """For people: one list of what happened on whatever worker, the last `MAX_EVENTS`."""
    events = [
        {"at": at, "what": what, "detail": detail, "worker_id": flight.worker_id, "node_id": flight.node_id}
        for flight in trace.flights
        for at, what, detail in flight.events
    ]
    return {
        "session_id": trace.session_id,
        "user_id": trace.user_id,
        "state": trace.state,
        "events": events[-MAX_EVENTS:],
    }
