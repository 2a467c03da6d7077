"""The record of a connection: a bounded number of events, and a trace in words."""

from wsd.supervisor.cli.trace_lines import beside, session_lines
from wsd.worker.contract.events import Event
from wsd.worker.delivery.connection_record import MAX_EVENTS, ConnectionRecord, SessionTrace, add_event, shown


def test_the_first_event_and_the_last_ones_are_kept() -> None:
    events: list[tuple[float, str, str]] = []
    for number in range(3 * MAX_EVENTS):
        add_event(events, (float(number), "joined", f"channel-{number}"))
    assert len(events) == MAX_EVENTS
    assert events[0][0] == 0
    assert [event[0] for event in events[1:]] == list(range(2 * MAX_EVENTS + 1, 3 * MAX_EVENTS))


def test_a_trace_goes_over_all_connections_of_a_session() -> None:
    events = [(1.0, "joined", "news")] * 30
    records = [
        ConnectionRecord(session_id="s", user_id="ann", worker_id=f"worker-{n}-ab", node_id="n", events=events)
        for n in (1, 2)
    ]
    seen = shown(SessionTrace(session_id="s", user_id="ann", state="ended", records=records))
    assert len(seen["events"]) == MAX_EVENTS
    assert [event["worker_id"] for event in seen["events"]] == ["worker-1-ab"] * 20 + ["worker-2-ab"] * 30


def event(at: float, source: str, text: str) -> Event:
    return Event(at=at, source=source, level="info", text=text)


def test_operations_of_the_node_are_shown_beside_the_closes_that_they_caused() -> None:
    happened = [
        {"at": 1000.0, "what": "connected", "detail": "", "worker_id": "worker-1-ab", "node_id": "here"},
        {"at": 5000.0, "what": "closed", "detail": "1012", "worker_id": "worker-1-ab", "node_id": "here"},
        {"at": 9000.0, "what": "closed", "detail": "1000", "worker_id": "worker-2-ab", "node_id": "elsewhere"},
    ]
    events = [
        event(1000, "supervisor", "scale begins"),  # nothing ended
        event(4990, "supervisor", "restart begins"),
        event(4999, "worker-1", "draining 3 connections"),
        event(4999, "worker-2", "draining 7 connections"),
        event(9000, "supervisor", "restart begins"),  # it ended on another node
    ]
    assert beside(happened, events, "here") == events[1:3]
    lines = list(
        session_lines([{"session_id": "s", "user_id": "ann", "state": "ended", "events": happened}], events, "here")
    )
    assert lines[0] == "session s of ann, ended"
    assert [line.split(maxsplit=2)[2] for line in lines[1:]] == [
        "worker-1-ab     connected",
        "supervisor      (restart begins)",
        "worker-1        (draining 3 connections)",
        "worker-1-ab     closed 1012",
        "worker-2-ab     closed 1000",
    ]
