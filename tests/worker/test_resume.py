"""Clients that come back have every message, once and in order, or are told that they have not."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.apps import copy_app
from tests.support.hub_client import HubClient, ask, close_of, hub_client, receive
from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from tests.support.worker import Worker, close_opened, worker, workers
from wsd.worker.contract.redis_keys import history_key, history_meta_key
from wsd.worker.redis_client import Redis, open_redis

pytestmark = pytest.mark.anyio

CHANNELS = json.dumps(
    {"short": {"history_size": 3}, "brief": {"history_ttl_seconds": 0.2}, "plain": {"history_size": 0}}
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with server(tmp_path_factory.mktemp("valkey"), unused_port()) as running:
        yield running


@pytest.fixture(scope="module", params=["memory", "redis"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Two workers of a cluster. In memory there is only one, which comes twice."""
    directory = tmp_path_factory.mktemp("workers")
    if request.param == "memory":
        with worker(directory, channels=CHANNELS, messages_per_second=0.0, bytes_per_second=0.0) as alone:
            yield [alone, alone]
    else:
        redis: Valkey = request.getfixturevalue("redis")
        with workers(
            directory, 2, redis_url=redis.url, channels=CHANNELS, messages_per_second=0.0, bytes_per_second=0.0
        ) as both:
            yield both


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


@pytest.fixture
async def commands(redis: Valkey) -> AsyncIterator[Redis]:
    client = open_redis(redis.url, connect_timeout=1, timeout=2)
    yield client
    await client.aclose()


async def publisher(to: Worker) -> ClientConnection:
    return await to.connect("publisher")


async def publish(connection: ClientConnection, channel: str, *data: Any) -> list[int]:
    answers = [await ask(connection, type="publish", channel=channel, data=each) for each in data]
    assert all(answer["durable"] for answer in answers)
    return [answer["offset"] for answer in answers]


async def test_a_client_that_comes_back_gets_all_that_it_missed(serving: list[Worker]) -> None:
    ann, source = await hub_client("ann", serving[0], "room", "other"), await publisher(serving[1])
    await publish(source, "room", 1, 2)
    assert await ann.read(2) == [1, 2]
    await ann.drop()
    await publish(source, "room", 3, 4, 5)
    await publish(source, "other", "x")
    welcome = await ann.connect(serving[1])
    assert welcome["resumed"] is True
    assert welcome["channels"]["room"]["recovered"]
    assert welcome["channels"]["room"]["count"] == 3
    assert welcome["channels"]["other"]["recovered"]
    assert welcome["channels"]["other"]["count"] == 1
    await publish(source, "room", 6)
    assert sorted(map(str, await ann.read(5))) == ["3", "4", "5", "6", "x"]
    await ann.nothing_arrives()


async def test_broadcasts_and_direct_messages_are_not_missed(serving: list[Worker]) -> None:
    ann, source = await hub_client("ann-2", serving[0]), await publisher(serving[1])
    await ann.drop()
    await ask(source, type="broadcast", data="to all")
    await ask(source, type="direct", user_id="ann-2", data="to ann")
    welcome = await ann.connect(serving[1])
    assert welcome["channels"]["broadcast"]["count"] == 1
    assert welcome["channels"]["direct"]["count"] == 1
    assert await ann.read(2) == ["to all", "to ann"]


async def test_a_session_goes_on_under_its_id_and_a_new_token(serving: list[Worker]) -> None:
    ann = await hub_client("ann-3", serving[0])
    first = ann.welcome
    await ann.drop()
    second = await ann.connect(serving[1])
    assert second["session_id"] == first["session_id"]
    assert second["resume_token"] != first["resume_token"]


async def test_a_token_holds_until_the_next_one_was_used(serving: list[Worker]) -> None:
    ann = await hub_client("ann-4", serving[0])
    first = ann.welcome
    await ann.drop()
    await ann.connect(serving[1])
    await ann.drop()
    ann.welcome = first  # the welcome with the second did not reach it
    assert (await ann.connect(serving[0]))["resumed"] is True
    await ann.drop()
    assert (await ann.connect(serving[0]))["resumed"] is True
    await ann.drop()
    ann.welcome = first
    assert (await ann.connect(serving[0]))["resumed"] is False


async def test_a_token_is_its_users_alone(serving: list[Worker]) -> None:
    ann = await hub_client("ann-5", serving[0], "room")
    await ann.drop()
    mallory = HubClient("mallory")
    mallory.welcome = ann.welcome
    welcome = await mallory.connect(serving[1])
    assert welcome["resumed"] is False
    assert welcome["session_id"] != ann.welcome["session_id"]
    assert (await ann.connect(serving[1]))["resumed"] is True


@pytest.mark.parametrize("token", ["x", "a" * 32, "a" * 32 + ".b", ".", "a.b.c"])
async def test_an_unknown_resume_token_gives_a_new_session(serving: list[Worker], token: str) -> None:
    guess = HubClient("guess")
    guess.welcome = {"resume_token": token}
    assert (await guess.connect(serving[0]))["resumed"] is False


async def test_the_digest_of_a_token_is_no_token(serving: list[Worker]) -> None:
    ann = await hub_client("ann-6", serving[0])
    await ann.drop()
    ann.welcome["resume_token"] = ann.welcome["session_id"] + "."
    assert (await ann.connect(serving[0]))["resumed"] is False


async def test_the_earlier_connection_of_a_session_is_closed(serving: list[Worker]) -> None:
    for to in serving:
        ann = await hub_client("ann-7", serving[0], "room-7")
        earlier = ann.connection
        assert (await ann.connect(to))["resumed"] is True
        assert (await close_of(earlier))[0] == 4500
        source = await publisher(serving[0])
        await publish(source, "room-7", to.path.parent.name)
        assert await ann.read(1) == [to.path.parent.name]
        await ann.drop()
        assert (await ann.connect(to))["resumed"] is True


async def test_subscribe_takes_since_without_a_session(serving: list[Worker]) -> None:
    ann, source = await hub_client("ann-8", serving[0], "since"), await publisher(serving[1])
    await publish(source, "since", 1)
    assert await ann.read(1) == [1]
    await ann.drop()
    await publish(source, "since", 2, 3)
    await ann.connect(serving[1], resume=False)
    state = await ann.subscribe("since", since=ann.since["since"])
    assert state["recovered"]
    assert state["count"] == 2
    assert await ann.read(2) == [2, 3]


async def test_a_channel_that_never_had_a_message_has_a_position_to_come_back_to(serving: list[Worker]) -> None:
    ann, source = await hub_client("ann-9", serving[0], "virgin"), await publisher(serving[1])
    assert ann.since["virgin"]["offset"] == 0
    await ann.drop()
    await publish(source, "virgin", "first")
    await ann.connect(serving[1])
    assert await ann.read(1) == ["first"]


async def test_a_client_whose_messages_were_trimmed_is_told_and_gets_none_of_the_rest(serving: list[Worker]) -> None:
    ann, source = await hub_client("ann-10", serving[0], "short"), await publisher(serving[1])
    await ann.drop()
    await publish(source, "short", *range(5))
    state = (await ann.connect(serving[1]))["channels"]["short"]
    assert not state["recovered"]
    assert state["reason"] == "trimmed"
    assert state.get("count") is None
    await publish(source, "short", "on")
    assert await ann.read(1) == ["on"]


async def test_a_client_whose_messages_expired_is_told(serving: list[Worker]) -> None:
    ann, source = await hub_client("ann-11", serving[0], "brief"), await publisher(serving[1])
    await ann.drop()
    [offset] = await publish(source, "brief", 1)

    async def expired() -> bool:
        page = await ask(source, type="history", channel="brief")
        return not page["messages"] and page["offset"] == offset

    async with asyncio.timeout(10):
        while not await expired():  # noqa: ASYNC110 - it is another process that changes
            await asyncio.sleep(0.05)
    state = (await ann.connect(serving[1]))["channels"]["brief"]
    assert not state["recovered"]
    assert state["reason"] == "expired"


async def test_a_client_with_a_position_of_another_epoch_is_told(serving: list[Worker]) -> None:
    ann = await hub_client("ann-12", serving[0], "epochs")
    await ann.drop()
    ann.since["epochs"]["epoch"] = "another"
    state = (await ann.connect(serving[1]))["channels"]["epochs"]
    assert not state["recovered"]
    assert state["reason"] == "epoch_changed"


async def test_a_position_beyond_the_top_is_of_another_history(serving: list[Worker]) -> None:
    ann = await hub_client("ann-13", serving[0], "beyond")
    await ann.drop()
    ann.since["beyond"]["offset"] = 17
    state = (await ann.connect(serving[1]))["channels"]["beyond"]
    assert not state["recovered"]
    assert state["reason"] == "epoch_changed"


async def test_a_channel_without_history_cannot_be_recovered(serving: list[Worker]) -> None:
    ann = HubClient("ann-14")
    await ann.connect(serving[0])
    state = await ann.subscribe("plain", since={"offset": 0, "epoch": "x"})
    assert not state["recovered"]
    assert state["reason"] == "no_history"
    assert await ask(ann.connection, type="publish", channel="plain", data=1) == {"type": "ack", "id": 1} | {
        "id": pytest.approx(1, abs=1e9)
    }


async def test_channels_that_were_left_are_not_entered_again(serving: list[Worker]) -> None:
    ann = await hub_client("ann-15", serving[0], "left", "kept")
    await ask(ann.connection, type="unsubscribe", channel="left")
    del ann.since["left"]
    await ann.drop()
    welcome = await ann.connect(serving[1])
    assert set(welcome["channels"]) == {"broadcast", "direct", "kept"}


async def test_a_malformed_resume_is_refused(serving: list[Worker]) -> None:
    for first in ('{"type": "ping"}', "rubbish", '{"type": "resume", "since": {"room": 3}}'):
        connection = await serving[0].open("user_id=ann&session=x.y")
        await connection.send(first)
        assert (await close_of(connection))[0] == 1008


@pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])
async def test_a_client_whose_resume_is_late_may_come_back(tmp_path: Path, protocol: str) -> None:
    with worker(tmp_path, protocol=protocol) as alone:
        ann = await hub_client("ann", alone)
        await ann.drop()
        token = ann.welcome["resume_token"]
        silent = [await alone.open(f"user_id=ann&{how}") for how in ("resume=1", f"session={token}")]
        async with asyncio.timeout(15):
            for connection in silent:
                await connection.wait_closed()
        expected = (4408, "no resume request came in time")
        assert [(c.close_code, c.close_reason) for c in silent] == [expected, expected]
        assert (await ann.connect(alone))["resumed"], "the session is as it was"
        alone.check_unharmed()


async def test_many_missed_messages_come_in_pages(serving: list[Worker]) -> None:
    ann, source = await hub_client("ann-16", serving[0], "pages"), await publisher(serving[1])
    await ann.drop()
    for number in range(899):
        await source.send(json.dumps({"type": "publish", "channel": "pages", "data": number}))
    assert (await ask(source, type="publish", channel="pages", data=899))["type"] == "ack"
    welcome = await ann.connect(serving[1])
    assert welcome["channels"]["pages"]["count"] == 900
    assert await ann.read(900) == list(range(900))


async def test_a_hundred_come_back_at_once_while_others_talk(serving: list[Worker]) -> None:
    source = await publisher(serving[1])
    crowd = [await hub_client(f"crowd-{number}", serving[number % 2], "crowd") for number in range(100)]
    for number, each in enumerate(crowd):
        await each.drop()
        if number % 10 == 0:
            await publish(source, "crowd", number)
    talking = asyncio.create_task(publish(source, "crowd", *range(1000, 1050)))
    await asyncio.gather(*(each.connect(serving[number % 2]) for number, each in enumerate(crowd)))
    await talking
    for number, each in enumerate(crowd):
        assert await each.read(60) == [*range(0, 100, 10), *range(1000, 1050)], number


async def test_history_on_request_and_over_http(tmp_path: Path) -> None:
    with worker(tmp_path, api_key="sesame") as alone:
        source = await publisher(alone)
        await publish(source, "room", *range(1, 6))
        page = await ask(source, type="history", channel="room", since=2, limit=2)
        assert [(m["data"], m["offset"]) for m in page["messages"]] == [(3, 3), (4, 4)]
        assert (page["offset"], page["messages"][0]["epoch"]) == (5, page["epoch"])
        page = await ask(source, type="history", channel="room", reverse=True, limit=2)
        assert [m["data"] for m in page["messages"]] == [5, 4]
        page = await ask(source, type="history", channel="room", since=2, reverse=True)
        assert [m["data"] for m in page["messages"]] == [1]
        assert (await ask(source, type="history", channel="room", limit=501))["code"] == "invalid_request"
        key = {"X-API-Key": "sesame"}
        status, page = alone.request("GET", "/api/websocket/history/room?since=3", headers=key)
        assert (status, [m["data"] for m in page["messages"]]) == (200, [4, 5])
        status, page = alone.request("GET", "/api/websocket/history/room?reverse=true&limit=1", headers=key)
        assert (status, [m["data"] for m in page["messages"]]) == (200, [5])
        assert alone.request("GET", "/api/websocket/history/room")[0] == 401
        assert alone.request("GET", "/api/websocket/history/no%20name", headers=key)[0] == 400
        assert alone.request("GET", "/api/websocket/history/room?since=x", headers=key)[0] == 400


async def test_an_idempotency_key_is_of_its_user(serving: list[Worker]) -> None:
    ann = await hub_client("ann-17", serving[0], "once")
    one, two = await serving[0].connect("one"), await serving[1].connect("two")
    retried = {"type": "publish", "channel": "once", "idempotency_key": "k"}
    first = await ask(one, **retried, data=1)
    again = await ask(await serving[1].connect("one"), **retried, data=1)
    other = await ask(two, **retried, data=2)
    assert (first["offset"], again["offset"], other["offset"]) == (1, 1, 2)
    assert await ann.read(2) == [1, 2]
    await ann.nothing_arrives()
    assert (await ask(one, type="publish", channel="once", data=1, idempotency_key="x" * 129))["type"] == "error"


async def test_sessions_of_a_killed_worker_continue_on_another(tmp_path: Path, redis: Valkey) -> None:
    with workers(tmp_path, 2, redis_url=redis.url) as both:
        ann, source = await hub_client("ann-18", both[0], "killed"), await publisher(both[1])
        await publish(source, "killed", 1)
        assert await ann.read(1) == [1]
        both[0].process.kill()
        await ann.connection.wait_closed()
        await publish(source, "killed", 2)
        welcome = await ann.connect(both[1])
        assert welcome["resumed"] is True
        assert await ann.read(1) == [2]


async def test_attempts_that_ended_while_redis_was_away_do_not_take_the_session_from_the_last_one(
    tmp_path: Path,
) -> None:
    with (
        server(tmp_path / "redis", unused_port(), "--appendonly", "yes") as redis,
        workers(tmp_path, 2, redis_url=redis.url) as both,
    ):
        ann = await hub_client("ann", both[0], "room")
        ann.connection.transport.abort()
        redis.kill()
        await eventually(lambda: all(one.health()[1]["status"] == "degraded" for one in both))

        async def attempt(to: Worker) -> ClientConnection:
            connection = await to.open("user_id=ann&username=ann&resume=1")
            resume = {"type": "resume", "token": ann.welcome["resume_token"], "since": ann.since}
            await connection.send(json.dumps(resume))
            return connection

        lost = [await attempt(to) for to in both * 3]
        last = await attempt(both[0])
        for connection in lost:
            connection.transport.abort()
        redis.start()
        welcome = await receive(last)
        assert welcome["resumed"] is True
        await eventually(lambda: all(one.health()[1]["status"] == "healthy" for one in both))
        assert (await ask(last, type="publish", channel="room", data=1))["durable"] is True
        assert (await ask(last, type="ping"))["type"] == "pong"
        other = await hub_client("ann", both[1])
        assert (await other.ask(type="presence", channel="room"))["count"] == 1


async def test_connected_clients_are_told_of_a_lost_history(tmp_path: Path, redis: Valkey, commands: Redis) -> None:
    with worker(tmp_path, redis_url=redis.url) as alone:
        ann, source = await hub_client("ann-19", alone, "lost"), await publisher(alone)
        await publish(source, "lost", 1)
        assert await ann.read(1) == [1]
        await commands.delete(history_key("lost"), history_meta_key("lost"))
        await publish(source, "lost", 2)
        gap = await receive(ann.connection)
        assert (gap["type"], gap["channel"], gap["reason"], gap["offset"]) == ("gap", "lost", "epoch_changed", 0)
        ann.since["lost"] = {"offset": 0, "epoch": gap["epoch"]}
        assert await ann.read(1) == [2]


async def test_a_worker_reads_what_it_missed_and_no_client_reconnects(
    tmp_path: Path, redis: Valkey, commands: Redis
) -> None:
    with workers(tmp_path, 2, redis_url=redis.url) as both:
        ann, source = await hub_client("ann-20", both[0], "cut"), await publisher(both[1])
        for number in range(20):
            if number % 5 == 2:
                for client in await commands.client_list("pubsub"):
                    await commands.client_kill_filter(_id=client["id"])
            await ask(source, type="publish", channel="cut", data=number)
        await eventually(lambda: all(one.health()[1]["status"] == "healthy" for one in both))
        heard: set[int] = set()
        order: list[int] = []
        while len(heard) < 20:
            message = await receive(ann.connection)
            if message["type"] == "message":
                assert message["uid"] not in heard
                heard.add(message["uid"])
                order.append(message["data"])
            else:
                assert message["type"] == "position"
        assert order == list(range(20))


async def test_a_token_in_the_url_is_still_read(serving: list[Worker]) -> None:
    ann = await hub_client("ann", serving[0], "older")
    await publish(await publisher(serving[1]), "older", 1)
    await ann.read(1)
    await ann.drop()
    connection = await serving[1].open(f"user_id=ann&session={ann.welcome['resume_token']}")
    await connection.send(json.dumps({"type": "resume", "since": ann.since}))
    welcome = await receive(connection)
    assert welcome["resumed"]
    assert welcome["channels"]["older"]["recovered"]
    await connection.close()


async def test_a_resume_without_a_token_is_in_the_channels_that_it_names(serving: list[Worker]) -> None:
    ann = await hub_client("ann", serving[0], "named")
    await publish(await publisher(serving[1]), "named", 1)
    connection = await serving[1].open("user_id=bob&resume=1")
    await connection.send(json.dumps({"type": "resume", "since": {"named": ann.since["named"]}}))
    welcome = await receive(connection)
    assert not welcome["resumed"]
    assert welcome["channels"]["named"]["count"] == 1
    await connection.close()
    await ann.connection.close()


async def test_a_resume_takes_the_name_of_the_new_identity(serving: list[Worker]) -> None:
    bob = await hub_client("bob", serving[0], "names")
    ann = await hub_client("ann", serving[0], "names")
    for to in (serving[1], serving[0], serving[0]):  # from the other worker, and from the same one
        ann.username += "!"
        await ann.drop()
        welcome = await ann.connect(to)
        assert welcome["resumed"]
        assert welcome["user_id"] == "ann"
        assert welcome["username"] == ann.username
        await publish(ann.connection, "names", "hi")
        message = await receive(bob.connection)
        assert message["from"]["username"] == ann.username
        members = (await ask(bob.connection, type="presence", channel="names"))["members"]
        assert {member["username"] for member in members} >= {ann.username}
    await ann.connection.close()
    await bob.connection.close()


async def test_the_application_authorizes_each_action(tmp_path: Path) -> None:
    copy_app("hooks", tmp_path)
    with worker(tmp_path, authorize="hooks:authorize") as alone:
        ann = await hub_client("ann", alone, "room")
        assert (await ask(ann.connection, type="publish", channel="room", data=1))["type"] == "ack"
        for request in (
            {"type": "subscribe", "channel": "secret"},
            {"type": "publish", "channel": "secret", "data": 1},
            {"type": "presence", "channel": "room"},
            {"type": "history", "channel": "room"},
            {"type": "subscribe", "channel": "broken"},
            {"type": "broadcast", "data": 1},
            {"type": "direct", "user_id": "root", "data": 1},
        ):
            assert (await ask(ann.connection, **request))["code"] == "forbidden"
        root = await alone.connect("root")
        assert (await ask(root, type="history", channel="room"))["type"] == "history"
        await ann.connection.send('{"text": "a broadcast of itself"}')
        assert (await receive(ann.connection))["code"] == "forbidden"
        assert (await ask(root, type="direct", user_id="ann", data="hi"))["type"] == "ack"
        assert (await ask(root, type="broadcast", data="all"))["type"] == "ack"
        assert await ann.read(2) == ["hi", "all"]
        ann.since["secret"] = {"offset": 0, "epoch": "x"}
        await ann.drop()
        assert set((await ann.connect(alone))["channels"]) == {"broadcast", "direct", "room"}
