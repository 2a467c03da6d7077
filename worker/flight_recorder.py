"""A flight recorder for each connection: its last events, for whoever asks later why it was closed."""

from typing import Any

from msgspec import Struct

from wsd.worker.wire import CloseCode

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


MEANINGS: dict[int, str] = {
    CloseCode.LOST: "lost without a close frame: the client, a network or a proxy is gone",
    CloseCode.INVALID_TEXT: "by the server: it sent what is not UTF-8",
    CloseCode.POLICY: "by the server: it did what it may not",
    CloseCode.TOO_BIG: "by the server: its message was too large",
    CloseCode.RESTART: "by the server: its worker stops, is replaced, or has too many",
    CloseCode.SLOW_READER: "by the server: it reads too slowly",
    CloseCode.IDLE: "by the server: it said nothing for too long",
    CloseCode.TOKEN_EXPIRED: "by the server: its token has expired, it may come back with a new one",
    CloseCode.SESSION_ENDED: "by the server: its session was ended, or resumed by another connection",
    1002: "by the server: it broke the WebSocket protocol",
    1011: "by the server: no answer to a ping, or its application raised",
}


def how_it_ended(code: int, reason: str, *, by_server: bool) -> str:
    """Who closed a connection, and why, in words. `by_server`: it is known to be."""
    meaning = MEANINGS.get(code)
    if meaning is None:
        meaning = "by the server" if by_server else "by the client"
    return f"{code} {meaning}" + (f" ({reason})" if reason else "")


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
