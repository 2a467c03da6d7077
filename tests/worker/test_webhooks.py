"""Webhooks: a receiver gets every event, signed, whatever happens to it, to the workers and to Redis."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_client import ask
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually
from tests.support.webhook_receiver import SECRET, Receiver, is_signed, receiver
from tests.support.worker import Worker, close_opened, worker, workers

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a Valkey in which no other test has left sessions."""
    with valkey(tmp_path / "valkey", unused_port()) as url:
        yield url


@pytest.fixture
def receiving() -> Iterator[Receiver]:
    with receiver(unused_port()) as running:
        yield running


def settings(to: Receiver, **more: Any) -> dict[str, Any]:
    return {"webhook_url": to.url, "webhook_secret": SECRET, "webhook_timeout": 1.0, **more}


@pytest.mark.parametrize("distributed", [False, True], ids=["memory", "redis"])
async def test_a_receiver_gets_signed_events_through_all_its_troubles(
    tmp_path: Path, receiving: Receiver, redis_url: str, distributed: bool
) -> None:
    more = {"redis_url": redis_url} if distributed else {}
    with worker(tmp_path, **settings(receiving, **more)) as serving:
        ann, session = await serving.join("ann")
        await ask(ann, type="subscribe", channel="room")
        await eventually(lambda: receiving.types("ann") == ["connected", "subscribed"])

        receiving.status = 500
        refused = len(receiving.requests)
        await serving.connect("bob")
        await eventually(lambda: len(receiving.requests) >= refused + 2)
        assert receiving.types("bob") == []
        (first, body), (second, same_body) = receiving.requests[refused : refused + 2]
        assert (first["webhook-id"], body) == (second["webhook-id"], same_body)
        receiving.status = 200
        await eventually(lambda: receiving.types("bob") == ["connected"])

        receiving.hangs.set()
        hung = len(receiving.requests)
        await serving.connect("cid")
        await eventually(lambda: len(receiving.requests) >= hung + 2)
        receiving.hangs.clear()
        await eventually(lambda: receiving.types("cid") == ["connected"])

        receiving.stop()
        await ann.close()
        await eventually(lambda: _failures(serving) >= 3)
        receiving.start()
        await eventually(lambda: receiving.types("ann") == ["connected", "subscribed", "disconnected"])

        assert all(is_signed(*request) for request in receiving.requests)
        assert Counter(event["id"] for event in receiving.taken).most_common(1)[0][1] == 1
        assert receiving.taken[-1]["id"] == f"{session}:disconnected"
        assert receiving.taken[-1]["channels"] == ["room"]
        none_waits = r'wsd_events_waiting\{[^}]*reader="webhooks"[^}]*\} 0\.0'
        await eventually(lambda: re.search(none_waits, serving.request("GET", "/metrics")[1]))
        metrics = serving.request("GET", "/metrics")[1]
        assert re.search(r"wsd_webhook_events_sent_total\{[^}]*\} 5\.0", metrics)


def _failures(of: Worker) -> float:
    found = re.search(r"wsd_webhook_failures_total\{[^}]*\} (\S+)", of.request("GET", "/metrics")[1])
    assert found is not None
    return float(found[1])


async def test_only_the_events_that_are_named_are_sent(tmp_path: Path, receiving: Receiver) -> None:
    with worker(tmp_path, **settings(receiving, webhook_events="disconnected,subscribed")) as serving:
        ann = await serving.connect("ann")
        await ask(ann, type="subscribe", channel="room")
        await ask(ann, type="unsubscribe", channel="room")
        await ann.close()
        await eventually(lambda: receiving.types("ann") == ["subscribed", "disconnected"])


async def test_killed_workers_lose_no_event(tmp_path: Path, receiving: Receiver, redis_url: str) -> None:
    """The worker that posts is killed while the receiver is down, and so is the worker that has the sessions."""
    values = settings(receiving, redis_url=redis_url, session_ttl=3.0, heartbeat_ttl=1.0)
    with workers(tmp_path, 2, **values) as both:
        receiving.status = 503
        for number in range(20):
            await both[number % 2].connect(f"user-{number}")
        await eventually(lambda: len(receiving.requests) >= 1)
        posts = next(one for one in both if "a webhook could not be delivered" in one.log.read_text())
        posts.process.kill()
        posts.process.wait()
        receiving.status = 200
        lost = range(both.index(posts), 20, 2)

        def ended() -> set[str]:
            return {event["user_id"] for event in receiving.taken if event["type"] == "disconnected"}

        await eventually(lambda: ended() == {f"user-{number}" for number in lost})
        assert all(receiving.types(f"user-{number}")[0] == "connected" for number in range(20))
        ids = Counter(event["id"] for event in receiving.taken)
        assert len(ids) == 20 + len(lost)
        assert set(ids.values()) == {1}
