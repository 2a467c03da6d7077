"""What workers share in memory goes on in another process."""

import time

import pytest

from wsd.worker.backend.memory_snapshot import MemorySnapshot
from wsd.worker.backend.roster import Roster
from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.broker.history import AppendResult, HistoryQuery, Retention
from wsd.worker.contract.webhook_rules import EVENT_TYPES
from wsd.worker.hooks.event_queue import Wanted
from wsd.worker.security.channel_access import Grant
from wsd.worker.sessions.session_store import Claim, SessionInfo, SessionState
from wsd.worker.wire.position import Position

pytestmark = pytest.mark.anyio

KEPT = Retention(2, 60.0, idempotency_key="k")


def session(name: str) -> SessionInfo:
    now = time.time()
    return SessionInfo(
        session_id=name,
        user_id="ann",
        username="Ann",
        node_id="n",
        worker_id="worker-1-a",
        connected_at=now,
        last_seen=now,
        metadata={"tab": 1},
        channels=frozenset({"room"}),
        grants={"room": Grant(actions=("subscribe",))},
        token="digest",
    )


async def test_histories_sessions_receipts_and_events_go_on() -> None:
    old = SharedMemory(session_ttl=60)
    old.events.wanted = Wanted(functions=EVENT_TYPES)
    backend = old.enter("worker-1-a", Roster(1.0, 5.0))
    results: list[object] = []
    for payload in (b"1", b"2", b"3"):
        backend.broker.append_soon("room", payload, Retention(2, 60.0), results.append)
    backend.broker.append_soon("room", b"4", KEPT, results.append)
    top = Position(4, results[-1].position.epoch)  # type: ignore[attr-defined]
    await backend.sessions.create(session("s1"))
    backend.receipts.confirm("room", "ann", Position(2, top.epoch), 60.0)
    old.leave("worker-1-a")

    new = SharedMemory(session_ttl=60)
    new.restore(MemorySnapshot.decode(old.snapshot().encode()))
    new.events.wanted = Wanted(functions=EVENT_TYPES)
    after = new.enter("worker-1-b", Roster(1.0, 5.0))

    [page] = await after.broker.read([HistoryQuery("room", KEPT, since=2)])
    assert (page.top, [entry.payload for entry in page.entries]) == (top, [b"3", b"4"])
    after.broker.append_soon("room", b"4", KEPT, results.append)  # sent again, since the answer was lost
    assert results[-1] == AppendResult(top, None)
    [found] = await after.sessions.list_by_user("ann")
    assert found.state is SessionState.DETACHED
    claim = Claim(
        session_id="s1", user_id="ann", username="Ann", token="digest", new_token="", worker_id="", node_id=""
    )
    claimed = await after.sessions.claim(claim)
    assert claimed is not None
    assert (claimed.metadata, claimed.channels, claimed.grants) == (found.metadata, found.channels, found.grants)
    assert await after.receipts.read_by("room", "ann", top.epoch) == 2
    await after.sessions.delete("s1")
    events = [entry.event for entry in await after.events.queue("functions").read(10)]
    assert [type(event).__name__ for event in events] == ["Connected", "Subscribed", "Disconnected"]
    assert len({event.id for event in events}) == 3
