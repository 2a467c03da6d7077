"""The notices that members of a channel get beside its messages: who comes and goes, how far others have read."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.hub_client import ask, receive
from tests.support.ports import unused_port
from tests.support.valkey import server
from tests.support.worker import Worker, close_opened, worker, workers
from wsd.worker.contract.redis_keys import receipts_key
from wsd.worker.redis_client import open_redis

pytestmark = pytest.mark.anyio

CHANNELS = json.dumps(
    {
        "lobby": {"presence": "events"},
        "quiet": {"presence": "off"},
        "read:*": {"receipts": True},
        "two": {"max_members": 2},
    }
)


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


async def enter(to: Worker, user_id: str, channel: str) -> ClientConnection:
    connection = await to.connect(user_id)
    assert (await ask(connection, type="subscribe", channel=channel))["type"] == "ack"
    return connection


async def changes(connection: ClientConnection, joined: int, left: int) -> tuple[set[str], set[str]]:
    """Collect who joined and left, from as many events as it takes."""
    came: list[str] = []
    went: list[str] = []
    counts = [0, 0]
    while counts != [joined, left]:
        event = await receive(connection)
        if event["type"] == "presence_changed":
            assert event["channel"] == "lobby"
            came += [member["user_id"] for member in event["joined"]]
            went += [member["user_id"] for member in event["left"]]
            counts = [counts[0] + event["joined_count"], counts[1] + event["left_count"]]
            assert counts[0] <= joined
            assert counts[1] <= left
    return set(came), set(went)


async def test_members_on_all_workers_get_presence_events(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        workers(tmp_path, 2, redis_url=redis.url, channels=CHANNELS) as (one, two),
    ):
        ann = await enter(one, "ann", "lobby")
        assert await changes(ann, 1, 0) == ({"ann"}, set())
        bob = await enter(two, "bob", "lobby")
        assert await changes(ann, 1, 0) == ({"bob"}, set())
        await bob.close()
        assert await changes(ann, 0, 1) == (set(), {"bob"})
        # Many at once are one event, or a few.
        crowd = await asyncio.gather(*(enter(two, f"crowd-{number}", "lobby") for number in range(50)))
        assert len((await changes(ann, 50, 0))[0]) == 50
        await ask(crowd[0], type="unsubscribe", channel="lobby")
        assert await changes(ann, 0, 1) == (set(), {"crowd-0"})


async def test_the_members_of_a_dead_worker_leave_in_one_event(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        workers(tmp_path, 3, redis_url=redis.url, channels=CHANNELS, heartbeat_ttl=1.0) as (one, two, three),
    ):
        ann = await enter(one, "ann", "lobby")
        await asyncio.gather(*(enter(three, f"crowd-{number}", "lobby") for number in range(150)))
        await changes(ann, 151, 0)
        bob = await enter(two, "bob", "lobby")
        three.process.kill()
        for other in (ann, bob):
            while (event := await receive(other))["type"] != "presence_changed" or not event["left_count"]:
                pass
            assert (event["left_count"], len(event["left"])) == (150, 100)
        count = (await ask(ann, type="presence", channel="lobby"))["count"]
        assert count == 2


@pytest.mark.parametrize("distributed", [True, False])
async def test_a_publisher_can_ask_how_far_a_user_has_read(tmp_path: Path, distributed: bool) -> None:
    with server(tmp_path / "redis", unused_port()) as redis:
        with worker(tmp_path, redis_url=redis.url if distributed else "", channels=CHANNELS) as serving:
            ann, source = await enter(serving, "ann", "read:1"), await serving.connect("source")
            acks = [await ask(source, type="publish", channel="read:1", data=number) for number in range(3)]
            at = {"offset": 2, "epoch": acks[0]["epoch"]}

            async def delivered(offset: int, **changes: Any) -> tuple[bool, int]:
                question = {
                    "type": "delivered",
                    "channel": "read:1",
                    "user_id": "ann",
                    "offset": offset,
                    **at,
                    **changes,
                }
                answer = await ask(source, **{**question, "offset": offset})
                return answer["delivered"], answer["offset"]

            assert await delivered(1) == (False, 0)
            await ask(ann, type="ping", positions={"read:1": at, "other": at})
            assert await delivered(2) == (True, 2)
            assert await delivered(3) == (False, 2)
            # Another connection of Ann is further behind: the highest position counts.
            await ask(await enter(serving, "ann", "read:1"), type="ping", positions={"read:1": {**at, "offset": 1}})
            assert await delivered(2) == (True, 2)
            assert await delivered(1, epoch="another") == (False, 0)
            refused = await ask(source, type="delivered", channel="other", user_id="ann", **at)
            assert refused["code"] == "no_receipts"


async def test_a_client_that_is_not_a_member_confirms_nothing(tmp_path: Path) -> None:
    with worker(tmp_path, channels=CHANNELS) as serving:
        mallory, source = await serving.connect("mallory"), await serving.connect("source")
        ack = await ask(source, type="publish", channel="read:1", data=1)
        at = {"offset": 1, "epoch": ack["epoch"]}
        await ask(mallory, type="ping", positions={"read:1": at})
        answer = await ask(source, type="delivered", channel="read:1", user_id="mallory", **at)
        assert answer["delivered"] is False


async def test_positions_that_never_were_are_not_kept(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        worker(tmp_path, redis_url=redis.url, channels=CHANNELS) as serving,
    ):
        ann, source = await enter(serving, "ann", "read:1"), await serving.connect("source")
        ack = await ask(source, type="publish", channel="read:1", data=1)
        epoch = ack["epoch"]
        await receive(ann)
        invented = [(2, epoch), (2**53 - 1, epoch), (1, "another"), (1, ""), (1, epoch[:-1]), (1, "x" * 64)]
        for offset, of in invented:
            await ask(ann, type="ping", positions={"read:1": {"offset": offset, "epoch": of}})
        await ask(ann, type="ping", positions={f"read:{n}": {"offset": 1, "epoch": epoch} for n in range(2, 50)})
        await ask(ann, type="ping", positions={"read:1": {"offset": 1, "epoch": epoch}})
        client = open_redis(redis.url, connect_timeout=1, timeout=2)
        while not await client.keys("ws_receipts:*"):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
        assert await client.keys("ws_receipts:*") == [receipts_key("read:1", epoch).encode()]
        assert await client.zrange(receipts_key("read:1", epoch), 0, -1, withscores=True) == [(b"ann", 1.0)]
        await client.aclose()


async def test_questions_leave_nothing_in_redis(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        worker(tmp_path, redis_url=redis.url, channels=CHANNELS, api_key="sesame") as serving,
    ):
        client = open_redis(redis.url, connect_timeout=1, timeout=2)
        ann = await serving.connect("ann")
        before = set(await client.keys("*"))
        for number in range(20):
            name = f"read:{number}"
            at = {"offset": number, "epoch": "9c1e02ab"}
            page = await ask(ann, type="history", channel=name)
            assert (page["offset"], page["epoch"], page["messages"]) == (0, "", [])
            await ask(ann, type="history", channel=name, since=number, reverse=True)
            await ask(ann, type="presence", channel=name)
            await ask(ann, type="delivered", channel=name, user_id="bob", **at)
            await ask(ann, type="ping", positions={name: at})
            await ask(ann, type="unsubscribe", channel=name)
            status, _ = serving.request("GET", f"/api/websocket/history/{name}", None, {"X-API-Key": "sesame"})
            assert status == 200
        serving.request("GET", "/api/websocket/stats")
        assert set(await client.keys("*")) == before
        await client.aclose()


async def test_a_channel_may_keep_no_presence_and_may_be_full(tmp_path: Path) -> None:
    with worker(tmp_path, channels=CHANNELS) as serving:
        ann, bob, eve = (
            await enter(serving, "ann", "two"),
            await enter(serving, "bob", "two"),
            await serving.connect("eve"),
        )
        assert (await ask(eve, type="subscribe", channel="two"))["code"] == "channel_full"
        assert (await ask(ann, type="subscribe", channel="two"))["type"] == "ack"  # a member stays a member
        await ask(bob, type="unsubscribe", channel="two")
        assert (await ask(eve, type="subscribe", channel="two"))["type"] == "ack"
        assert (await ask(eve, type="presence", channel="quiet"))["code"] == "no_presence"
