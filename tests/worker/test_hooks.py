"""Functions of the application learn what happens to clients: once for each event, whatever becomes of the workers."""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.support.apps import copy_app
from tests.support.hub_client import HubClient, ask, close_of, receive
from tests.support.ports import unused_port
from tests.support.valkey import server
from tests.support.waiting import eventually
from tests.support.worker import Worker, close_opened, worker, workers
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER, OPERATOR_PREFIX
from wsd.worker.contract.redis_keys import events_key

pytestmark = pytest.mark.anyio

KEY = "0123456789abcdef0123456789abcdef"
HOOKS = ("on_connect", "on_disconnect", "on_subscribe", "on_unsubscribe", "on_message")
SETTINGS: dict[str, Any] = {f"hook_{name}": f"event_hooks:{name}" for name in HOOKS}


class Events:
    """The events that functions were called with, in order."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def of(self, user_id: str) -> list[dict[str, Any]]:
        return [event for event in self.all() if event["user_id"] == user_id]

    def types(self, user_id: str) -> list[str]:
        return [event["type"] for event in self.of(user_id)]


def settings(directory: Path, **more: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the environment and the settings of workers whose functions write to a file in `directory`."""
    copy_app("event_hooks", directory)
    return {"EVENTS_FILE": str(directory / "events")}, {**SETTINGS, "app_directory": str(directory), **more}


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


@pytest.fixture(scope="module", params=["memory", "redis"])
def serving(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Worker], Events]]:
    """Two workers with hooks. In memory there is only one, which comes twice."""
    directory = tmp_path_factory.mktemp("hooks")
    environ, values = settings(directory, session_ttl=2.0, operator_key=KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVENTS_FILE", environ["EVENTS_FILE"])
        if request.param == "memory":
            with worker(directory, environ, **values) as alone:
                yield [alone, alone], Events(directory / "events")
        else:
            with server(directory / "valkey", unused_port()) as redis:
                with workers(directory, 2, redis_url=redis.url, **values) as both:
                    yield both, Events(directory / "events")


async def test_a_message_may_be_changed_or_refused(serving: tuple[list[Worker], Events]) -> None:
    (first, second), _ = serving
    ann, bob = await first.connect("ann"), await second.connect("bob")
    assert (await ask(bob, type="subscribe", channel="room"))["type"] == "ack"

    assert (await ask(ann, type="publish", channel="room", data="shout"))["type"] == "ack"
    assert (await receive(bob))["data"] == {"shouted": "ann", "to": "room"}
    assert (await ask(ann, type="direct", user_id="bob", data="shout"))["type"] == "ack"
    assert (await receive(bob))["data"] == {"shouted": "ann", "to": "bob"}

    def refused(answer: dict[str, Any]) -> tuple[str, str]:
        return answer["code"], answer["message"]

    async def publish(data: object) -> dict[str, Any]:
        return await ask(ann, type="publish", channel="room", data=data)

    assert refused(await publish("rude")) == ("too_rude", "no such words here")
    assert refused(await publish("off-topic")) == ("refused", "this is not the topic")
    for fault in ("broken", "wrong", "unspeakable"):
        assert refused(await publish(fault)) == ("internal_error", "the server could not do it")
    await ann.send('{"type": "publish", "id": 1, "channel": "room", "data": 1e400}')
    assert refused(await receive(ann)) == ("invalid_request", "Number out of range")
    assert (await publish({"as": "it is"}))["type"] == "ack"
    assert (await receive(bob))["data"] == {"as": "it is"}


async def test_each_event_of_a_session_is_told_once_and_in_order(serving: tuple[list[Worker], Events]) -> None:
    (first, second), events = serving
    cid = HubClient("cid")
    await cid.connect(first)
    session = cid.welcome["session_id"]
    for channel in ("a", "b"):
        await ask(cid.connection, type="subscribe", channel=channel)
    await ask(cid.connection, type="subscribe", channel="a")
    await ask(cid.connection, type="unsubscribe", channel="b")
    cid.connection.transport.abort()
    await cid.connect(second)
    assert cid.welcome["resumed"]
    await cid.connection.close()
    await eventually(lambda: "disconnected" in events.types("cid"))
    told = events.of("cid")
    assert [event["type"] for event in told] == [
        "connected",
        "subscribed",
        "subscribed",
        "unsubscribed",
        "disconnected",
    ]
    assert [event.get("channel") for event in told] == [None, "a", "b", "b", None]
    assert told[-1]["channels"] == ["a"]
    assert {event["session_id"] for event in told} == {session}
    assert {event["username"] for event in told} == {"cid"}
    assert len({event["id"] for event in told}) == 5
    assert told[0]["connected_at"] <= told[0]["at"] <= told[-1]["at"] <= time.time()


async def test_a_function_that_fails_costs_no_connection_and_no_event(serving: tuple[list[Worker], Events]) -> None:
    (first, _), events = serving
    broken = await first.connect("broken")
    await eventually(lambda: events.types("broken") == ["connected"])
    assert (await ask(broken, type="subscribe", channel="a"))["type"] == "ack"
    await broken.close()
    await eventually(lambda: events.types("broken") == ["connected", "subscribed", "disconnected"])
    assert "hooks.on_connect failed" in first.log.read_text() + serving[0][1].log.read_text()


async def test_a_session_that_expires_is_told_of(serving: tuple[list[Worker], Events]) -> None:
    (first, _), events = serving
    dan, session = await first.join("dan")
    dan.transport.abort()
    await eventually(lambda: events.types("dan") == ["connected", "disconnected"])
    told = events.of("dan")
    assert told[-1]["id"] == f"{session}:disconnected"
    assert told[-1]["at"] - told[-1]["connected_at"] >= 2


async def test_a_session_that_an_operator_ends_is_told_of_at_once(serving: tuple[list[Worker], Events]) -> None:
    (first, second), events = serving
    eve, session = await first.join("eve")
    status, answer = second.request("POST", f"{OPERATOR_PREFIX}kick", {"who": "eve"}, {OPERATOR_KEY_HEADER: KEY})
    assert (status, [each["session_id"] for each in answer["sessions"]]) == (200, [session])
    assert await close_of(eve) == (4500, "session ended")
    await eventually(lambda: events.types("eve") == ["connected", "disconnected"])
    assert events.of("eve")[-1]["at"] - events.of("eve")[0]["at"] < 2


async def test_sessions_of_a_worker_that_is_killed_are_told_of_once_on_one_worker(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, values = settings(tmp_path, session_ttl=3.0, heartbeat_ttl=1.0)
    monkeypatch.setenv("EVENTS_FILE", environ["EVENTS_FILE"])
    events = Events(tmp_path / "events")
    with workers(tmp_path, 3, redis_url=redis_url, **values) as (first, second, third):
        for number in range(30):
            await first.connect(f"lost-{number}")
        stays = await second.connect("stays")
        await eventually(lambda: sum(event["type"] == "connected" for event in events.all()) == 31)
        first.process.kill()
        first.process.wait()

        def ended() -> list[dict[str, Any]]:
            return [event for event in events.all() if event["type"] == "disconnected"]

        await eventually(lambda: len(ended()) >= 30)
        # A worker that dies between the call of a function and the removal of the event leaves it to another worker.
        with Redis.from_url(redis_url) as redis:
            await eventually(lambda: redis.xlen(events_key("functions")) == 0)
        third.process.kill()  # whichever had the lease, the last one has it now
        third.process.wait()
        await stays.close()
        await eventually(lambda: any(event["user_id"] == "stays" for event in ended()))
        assert Counter(Counter(event["id"] for event in ended()).values()) == {1: 31}
        assert len({event["worker"] for event in ended()}) <= 2


async def test_events_of_a_time_without_redis_come_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, values = settings(tmp_path)
    events = Events(tmp_path / "events")
    with server(tmp_path / "redis", unused_port(), "--appendonly", "yes", "--appendfsync", "always") as redis:
        with worker(tmp_path, environ, redis_url=redis.url, **values) as serving:
            before = await serving.connect("before")
            await eventually(lambda: events.types("before") == ["connected"])
            redis.kill()
            await eventually(lambda: serving.health()[1]["status"] == "degraded")
            await before.close()
            during = await serving.connect("during")
            await ask(during, type="subscribe", channel="room")
            redis.start()
            await eventually(lambda: events.types("before") == ["connected", "disconnected"])
            await eventually(lambda: events.types("during") == ["connected", "subscribed"])
            await during.close()
            await eventually(lambda: events.types("during") == ["connected", "subscribed", "disconnected"])
