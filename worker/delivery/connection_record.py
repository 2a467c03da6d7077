"""The record that each connection keeps of itself: its last events, to answer later why it was closed."""

from typing import Any

from msgspec import Struct

MAX_EVENTS = 50
"""How many events of a connection are kept: the first one, and the newest ones."""

Event = tuple[float, str, str]
"""When it happened (seconds since the epoch), what happened, and details."""


class ConnectionRecord(Struct, frozen=True, kw_only=True, array_like=True):
    """What happened to one connection of a session, until its end or until now."""

    session_id: str
    user_id: str
    worker_id: str
    node_id: str
    events: list[Event]


class SessionTrace(Struct, frozen=True, kw_only=True):
    """The records of a session's connections, the oldest first. `state` is connected, detached or ended."""

    session_id: str
    user_id: str
    state: str
    records: list[ConnectionRecord]


def add_event(events: list[Event], event: Event) -> None:
    """Add an event to a record. One beyond MAX_EVENTS replaces the second oldest."""
    events.append(event)
    if len(events) > MAX_EVENTS:
        del events[1]


def shown(trace: SessionTrace) -> dict[str, Any]:
    """Return a trace as it is shown to people: the last MAX_EVENTS events of all connections in one list."""
    events = [
        {"at": at, "what": what, "detail": detail, "worker_id": record.worker_id, "node_id": record.node_id}
        for record in trace.records
        for at, what, detail in record.events
    ]
    return {
        "session_id": trace.session_id,
        "user_id": trace.user_id,
        "state": trace.state,
        "events": events[-MAX_EVENTS:],
    }
