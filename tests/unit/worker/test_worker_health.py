"""The health of a worker, and the reasons why it is not healthy."""

from typing import Any

import msgspec
import pytest

from wsd.worker.broker.message_broker import BrokerHealth, Mode
from wsd.worker.contract.heartbeat import Heartbeat, WorkerState
from wsd.worker.health import WorkerHealth, judge

BEAT: dict[str, Any] = {
    "worker_id": "w",
    "node_id": "n",
    "slot": 1,
    "pid": 7,
    "beat": 1,
    "uptime": 1.0,
    "connections": 3,
    "messages_in": 0,
    "messages_out": 0,
    "loop_lag": 0.0,
    "rss": 1,
    "redis": True,
}


def judged(
    state: WorkerState = WorkerState.READY,
    mode: Mode = Mode.DISTRIBUTED,
    *,
    deaf: bool = False,
    running: bool = True,
    store_healthy: bool = True,
) -> WorkerHealth:
    beat = Heartbeat(**BEAT, state=state)
    broker = BrokerHealth(mode, reason="" if mode is Mode.DISTRIBUTED else "connection refused", deaf=deaf)
    return judge(beat, broker, running=running, store_healthy=store_healthy, sessions=5, workers=2)


@pytest.mark.parametrize(
    ("health", "status", "serves"),
    [
        (judged(), "healthy", True),
        (judged(mode=Mode.MEMORY), "healthy", True),
        (judged(mode=Mode.FALLBACK), "degraded", True),
        (judged(mode=Mode.LOCAL), "degraded", True),
        (judged(store_healthy=False), "degraded", True),
        (judged(WorkerState.STARTING), "starting", False),
        (judged(WorkerState.DRAINING, Mode.LOCAL), "draining", False),
        (judged(deaf=True), "deaf", False),
        (judged(WorkerState.DRAINING, deaf=True), "draining", False),
        (judged(running=False), "stopped", False),
        (judged(WorkerState.STARTING, running=False), "stopped", False),
    ],
)
def test_a_worker_serves_while_it_is_healthy_or_degraded(health: WorkerHealth, status: str, serves: bool) -> None:
    assert (health.status, health.serves) == (status, serves)


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (judged(mode=Mode.FALLBACK), "Redis is not reachable, messages stay on this node: connection refused"),
        (judged(mode=Mode.LOCAL), "Redis is not reachable, messages stay on this worker: connection refused"),
        (judged(store_healthy=False), "Redis is not reachable, messages cross: sessions cannot be written"),
    ],
)
def test_a_degraded_worker_says_why_and_how_far_messages_reach(health: WorkerHealth, reason: str) -> None:
    assert health.reason == reason


def test_a_healthy_worker_gives_no_reason() -> None:
    answer = msgspec.json.decode(msgspec.json.encode(judged()))
    assert sorted(answer) == ["heartbeat", "status", "websocket"]
    assert answer["websocket"]["total_sessions"] == 5
    assert answer["heartbeat"]["pid"] == 7
