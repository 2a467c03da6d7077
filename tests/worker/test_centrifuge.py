"""Clients of the Centrifuge protocol at one worker or two, and beside clients of the hub."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest

from tests.support.apps import copy_app
from tests.support.centrifuge_client import CentrifugeClient
from tests.support.cluster import PROTOCOL
from tests.support.hub_client import ask, receive
from tests.support.waiting import eventually
from tests.support.worker import Worker, close_opened, worker, workers

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
API_KEY = "a key of the test"
CHANNELS = {
    "*": {"history_size": 100},
    "events:*": {"history_size": 10, "presence": "events"},
    "bare:*": {"history_size": 0, "presence": "off"},
    "small:*": {"history_size": 2},
    "token:*": {"allow_subscribe": "token"},
}


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


@pytest.fixture(scope="module", params=["memory", "redis"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Two workers of a cluster. In memory there is only one, which comes twice."""
    directory = tmp_path_factory.mktemp("workers")
    copy_app("calls", directory)
    settings = {
        "channels": json.dumps(CHANNELS),
        "app_directory": str(directory),
        "centrifuge_rpc": "calls:answer",
        "api_key": API_KEY,
        "messages_per_second": 0.0,
        "bytes_per_second": 0.0,
    }
    if request.param == "memory":
        with worker(directory, **settings) as alone:
            yield [alone, alone]
    else:
        with workers(directory, 2, redis_url=request.getfixturevalue("redis_url"), **settings) as both:
            yield both


@pytest.fixture
async def ann(serving: list[Worker]) -> AsyncIterator[CentrifugeClient]:
    async with await CentrifugeClient.open(serving[0], "user_id=ann") as client:
        await client.connect()
        yield client


@pytest.fixture
async def bob(serving: list[Worker]) -> AsyncIterator[CentrifugeClient]:
    async with await CentrifugeClient.open(serving[1], "user_id=bob") as client:
        await client.connect()
        yield client


async def test_a_client_subscribes_in_the_frame_with_which_it_connects(serving: list[Worker]) -> None:
    names = [f"many:{number}" for number in range(100)]
    async with await CentrifugeClient.open(serving[0], "user_id=ann") as ann:
        first, *others = await ann.send_all(("connect", {}), *(("subscribe", {"channel": name}) for name in names))
        connected = (await ann.reply_to(first))["connect"]
        assert set(connected) >= {"client", "version", "subs"}
        assert set(connected["subs"]) == {"broadcast", "#ann"}
        for number in others:
            result = (await ann.reply_to(number))["subscribe"]
            assert result["recoverable"] is result["positioned"] is True
            assert result["epoch"]
        assert (await ann.reply("subscribe", channel="one:too:many"))["error"]["code"] == 106


async def test_both_kinds_of_clients_get_the_same_messages_in_the_same_order(
    serving: list[Worker], ann: CentrifugeClient
) -> None:
    bob = await serving[1].connect("bob")
    await ann.ask("subscribe", channel="mixed")
    await ask(bob, type="subscribe", channel="mixed")
    for number in range(20):
        if number % 2:
            await ann.ask("publish", channel="mixed", data={"n": number})
        else:
            await ask(bob, type="publish", channel="mixed", data={"n": number})
    heard = [(await ann.push())["pub"] for _ in range(20)]
    assert [pub["data"]["n"] for pub in heard] == list(range(20))
    assert [pub["offset"] for pub in heard] == list(range(1, 21))
    assert {pub["info"]["user"] for pub in heard} == {"ann", "bob"}
    assert len({pub["tags"]["uid"] for pub in heard}) == 20
    again = await serving[0].connect("cid")
    await ask(again, type="history", channel="mixed")  # the hub's own form of the same history
    page = (await ann.ask("history", channel="mixed", limit=-1))["publications"]
    assert [pub["data"]["n"] for pub in page] == list(range(20))


async def test_a_client_gets_what_it_missed_once_and_in_order(serving: list[Worker], bob: CentrifugeClient) -> None:
    channel = "recovered:1"
    async with await CentrifugeClient.open(serving[0], "user_id=ann") as ann:
        await ann.connect()
        at = await ann.ask("subscribe", channel=channel)
    for number in range(5):
        await bob.ask("publish", channel=channel, data=number)
    async with await CentrifugeClient.open(serving[1], "user_id=ann") as ann:
        await ann.connect()
        position = {"recover": True, "epoch": at["epoch"], "offset": at.get("offset", 0)}
        result = await ann.ask("subscribe", channel=channel, **position)
        assert (result["recovered"], result["was_recovering"], result.get("offset", 0)) == (True, True, 0)
        assert [(await ann.push())["pub"]["data"] for _ in range(5)] == list(range(5))
        await bob.ask("publish", channel=channel, data="new")
        assert (await ann.push())["pub"] | {"tags": 0, "info": 0} == {"data": "new", "offset": 6, "tags": 0, "info": 0}


async def test_an_empty_epoch_matches_any(serving: list[Worker], ann: CentrifugeClient, bob: CentrifugeClient) -> None:
    for number in range(3):
        await bob.ask("publish", channel="any:1", data=number)
    result = await ann.ask("subscribe", channel="any:1", recover=True)
    assert result["recovered"] is True
    assert [(await ann.push())["pub"]["data"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("flag", [0, 2])
async def test_what_cannot_be_recovered_is_said(ann: CentrifugeClient, bob: CentrifugeClient, flag: int) -> None:
    channel = f"small:{flag}"
    for number in range(5):
        await bob.ask("publish", channel=channel, data=number)
    top = await bob.ask("history", channel=channel, limit=0)
    asked = {"channel": channel, "recover": True, "offset": 1, "epoch": "another", "flag": flag}
    if flag:
        assert await ann.refused("subscribe", **asked) == 112
        await bob.ask("publish", channel=channel, data="unheard")
        result = await ann.ask("subscribe", channel=channel)
        assert result["offset"] == top["offset"] + 1
    else:
        result = await ann.ask("subscribe", **asked)
        assert (result.get("recovered", False), result["was_recovering"]) == (False, True)
        assert (result["offset"], result["epoch"]) == (top["offset"], top["epoch"])


async def test_history(ann: CentrifugeClient) -> None:
    for number in range(1, 6):
        await ann.ask("publish", channel="past", data=number)

    async def past(**request: Any) -> list[Any]:
        result = await ann.ask("history", channel="past", **request)
        assert result["offset"] == 5
        return [pub["data"] for pub in result.get("publications", [])]

    epoch = (await ann.ask("history", channel="past"))["epoch"]
    assert await past(limit=0) == []
    assert await past(limit=-1) == [1, 2, 3, 4, 5]
    assert await past(limit=2) == [1, 2]
    assert await past(limit=2, since={"offset": 2, "epoch": epoch}) == [3, 4]
    assert await past(limit=2, reverse=True) == [5, 4]
    assert await past(limit=9, reverse=True, since={"offset": 3, "epoch": epoch}) == [2, 1]
    assert await ann.refused("history", channel="past", since={"offset": 2, "epoch": "another"}, limit=1) == 112
    assert await ann.refused("history", channel="past", since={"offset": 0, "epoch": epoch}, reverse=True) == 107
    assert await ann.refused("history", channel="bare:1", limit=1) == 108


async def test_presence_and_its_events(ann: CentrifugeClient, bob: CentrifugeClient) -> None:
    channel = "events:1"
    await ann.ask("subscribe", channel=channel)
    own = (await ann.push("join"))["join"]["info"]
    assert own["user"] == "ann"
    await bob.ask("subscribe", channel=channel)
    other = (await ann.push("join"))["join"]["info"]
    assert other["user"] == "bob"
    found = (await ann.ask("presence", channel=channel))["presence"]
    assert {client: info["user"] for client, info in found.items()} == {own["client"]: "ann", other["client"]: "bob"}
    assert await ann.ask("presence_stats", channel=channel) == {"num_clients": 2, "num_users": 2}
    await bob.ask("publish", channel=channel, data="hi")
    assert (await ann.push())["pub"]["info"] == other
    await bob.ask("unsubscribe", channel=channel)
    assert (await ann.push("leave"))["leave"]["info"] == other
    assert await ann.refused("presence", channel="bare:1") == 108


async def test_messages_to_a_user_and_to_everybody(
    serving: list[Worker], ann: CentrifugeClient, bob: CentrifugeClient
) -> None:
    await bob.ask("publish", channel="#ann", data="to you")
    push = await ann.push()
    assert (push["channel"], push["pub"]["data"]) == ("#ann", "to you")
    cid = await serving[0].connect("cid")
    await ask(cid, type="direct", user_id="ann", data="to you, too")
    assert (await ann.push())["pub"]["data"] == "to you, too"
    await bob.ask("publish", channel="broadcast", data="to all")
    push = await ann.push()
    assert (push["channel"], push["pub"]["data"]) == ("broadcast", "to all")
    while (message := await receive(cid))["type"] != "message":
        pass
    assert (message["channel"], message["data"]) == ("broadcast", "to all")
    assert await ann.refused("subscribe", channel="#ann") == 105


async def test_calls(ann: CentrifugeClient) -> None:
    assert await ann.ask("rpc", method="whoami", data=[1]) == {"data": {"user": "ann", "sent": [1]}}
    assert (await ann.reply("rpc", method="gone"))["error"] == {
        "code": 400,
        "message": "no_method: there is no method gone",
    }
    assert await ann.refused("rpc", method="fail") == 100


async def test_errors_leave_the_client_connected(ann: CentrifugeClient) -> None:
    assert await ann.refused("subscribe", channel="no spaces") == 107
    assert await ann.refused("subscribe", channel="map", type=1) == 103
    assert await ann.refused("subscribe", channel="token:1") == 103
    assert await ann.refused("refresh", token="x") == 108
    assert await ann.refused("sub_refresh", channel="nowhere", token="x") == 103
    assert await ann.refused("ping") == 108
    await ann.connection.send('{"send":{"data":1}}')
    await ann.connection.send("{}")
    assert await ann.ask("unsubscribe", channel="nowhere") == {}


@pytest.mark.parametrize(
    "frame",
    [
        "nonsense",
        "[]",
        '{"id":7,"subscribe":[]}',
        '{"subscribe":{"channel":"a"}}',
        '{"id":7,"connect":{}}',
        b"\xff",
        '{"id":7,"rpc":{"data":' + "[" * 2000 + "]" * 2000 + "}}",
    ],
)
async def test_what_is_no_command_ends_the_connection_for_good(ann: CentrifugeClient, frame: str | bytes) -> None:
    await ann.connection.send(frame)
    code, reason = await ann.closed()
    assert (code, reason.partition(":")[0]) == (3501, "bad request")


@pytest.mark.parametrize("frame", ["{}", '{"id":1,"subscribe":{"channel":"a"}}', '{"connect":{}}', "x"])
async def test_the_first_command_is_connect(serving: list[Worker], frame: str) -> None:
    async with await CentrifugeClient.open(serving[0]) as client:
        await client.connection.send(frame)
        assert (await client.closed())[0] == 3501


async def test_hostile_data_reaches_no_other_client_as_an_error(ann: CentrifugeClient, bob: CentrifugeClient) -> None:
    await ann.ask("subscribe", channel="hostile")
    for data in ('{"a":\n 1}', '"\\ud800"', '"\\u2028"', "1e400", "[" * 200 + "]" * 200):
        await bob.connection.send('{"id":900,"publish":{"channel":"hostile","data":' + data.replace("\n", " ") + "}}")
        reply = await bob.reply_to(900)
        if "error" not in reply:
            assert "data" in (await ann.push())["pub"]
    await bob.ask("publish", channel="hostile", data="last")
    while (await ann.push())["pub"]["data"] != "last":
        pass


async def test_line_feeds_of_others_do_not_break_a_frame(serving: list[Worker], ann: CentrifugeClient) -> None:
    await ann.ask("subscribe", channel="lines")
    bob = await serving[1].connect("bob")
    await bob.send('{"type":"publish","channel":"lines","id":1,"data":{\n"a":\n1}}')
    assert (await ann.push())["pub"]["data"] == {"a": 1}


async def test_a_session_ends_with_its_connection(serving: list[Worker]) -> None:
    async with await CentrifugeClient.open(serving[0], "user_id=gone") as client:
        await client.connect()
        await client.ask("subscribe", channel="sessions")
        await eventually(lambda: _states("gone", serving[0]) == ["connected"])
    await eventually(lambda: _states("gone", serving[0]) == [])


def _states(user_id: str, worker: Worker) -> list[str]:
    """Return the states of a user's sessions."""
    _, found = worker.request("GET", f"/api/websocket/sessions?user_id={user_id}", headers={"X-API-Key": API_KEY})
    return [session["state"] for session in found["sessions"]]


# Tokens


def signed(seconds: float | None = 600, **claims: Any) -> str:
    ends = {} if seconds is None else {"exp": time.time() + seconds}
    return jwt.encode({**ends, **claims}, SECRET, "HS256")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker whose clients need a token."""
    with worker(tmp_path_factory.mktemp("guarded"), jwt_secret=SECRET, channels=json.dumps(CHANNELS)) as alone:
        yield alone


async def test_a_token_comes_with_connect(guarded: Worker) -> None:
    async with await CentrifugeClient.open(guarded) as ann:
        result = await ann.connect(token=signed(sub="ann"))
        assert result["expires"] is True
        assert 500 < result["ttl"] <= 600
        refreshed = await ann.ask("refresh", token=signed(900, sub="ann"))
        assert 800 < refreshed["ttl"] <= 900
        assert await ann.refused("subscribe", channel="token:1") == 103
        assert await ann.refused("subscribe", channel="token:1", token=signed(-60, channel="token:1")) == 109
        assert await ann.refused("subscribe", channel="token:1", token=signed(channel="token:2")) == 103
        granted = await ann.ask("subscribe", channel="token:1", token=signed(60, channel="token:1", sub="ann"))
        assert 50 < granted["ttl"] <= 60
        again = await ann.ask("sub_refresh", channel="token:1", token=signed(90, channel="token:1"))
        assert 80 < again["ttl"] <= 90
        assert await ann.refused("sub_refresh", channel="token:1") == 107


async def test_a_token_in_the_handshake_counts_as_well(guarded: Worker) -> None:
    async with await CentrifugeClient.open(guarded, f"token={signed(sub='ann')}") as ann:
        assert "#ann" in (await ann.connect())["subs"]


@pytest.mark.parametrize(
    ("token", "code", "error"),
    [
        ("", 3501, None),
        ("nonsense", 3500, None),
        (signed(sub="ann") + "x", 3500, None),
        (signed(-60, sub="ann"), 3005, 109),
        (signed(None, sub="ann"), 3500, None),
        (signed(channel="a", sub="ann"), 3500, None),
    ],
    ids=["none", "nonsense", "forged", "expired", "endless", "of a channel"],
)
async def test_a_token_that_is_refused(guarded: Worker, token: str, code: int, error: int | None) -> None:
    async with await CentrifugeClient.open(guarded) as client:
        [number] = await client.send_all(("connect", {"token": token}))
        closed, reason = await client.closed()
        assert closed == code
        assert reason
        assert (client._replies.get(number, {}).get("error", {}).get("code")) == error


async def test_a_token_of_another_user_ends_the_connection(guarded: Worker) -> None:
    async with await CentrifugeClient.open(guarded) as ann:
        await ann.connect(token=signed(sub="ann"))
        await ann.send_all(("refresh", {"token": signed(sub="bob")}))
        assert (await ann.closed())[0] == 3500


@pytest.mark.skipif(PROTOCOL == "uvicorn", reason="uvicorn's own protocol closes connections by itself")
async def test_a_drain_tells_clients_to_come_back(tmp_path: Any) -> None:
    with worker(tmp_path) as alone:
        async with await CentrifugeClient.open(alone, "user_id=ann") as ann:
            await ann.connect()
            alone.process.terminate()
            assert await ann.closed() == (3001, "shutdown")


@pytest.mark.skipif(PROTOCOL == "uvicorn", reason="uvicorn's own protocol pings as WebSocket says")
async def test_the_server_pings_and_closes_a_client_that_is_silent(tmp_path: Any) -> None:
    with worker(tmp_path, ping_interval=0.2, ping_timeout=0.4) as alone:
        async with await CentrifugeClient.open(alone, "user_id=ann") as ann:
            await ann.connect()
            async with asyncio.timeout(10):
                assert await ann.connection.recv() == "{}"
            assert (await ann.closed())[0] == 3004


async def test_commands_above_the_rate_are_refused_and_their_client_is_closed_in_the_end(tmp_path: Any) -> None:
    with worker(tmp_path, messages_per_second=1.0, message_burst=5.0) as alone:
        async with await CentrifugeClient.open(alone, "user_id=ann") as ann:
            await ann.connect()
            numbers = await ann.send_all(*[("presence", {"channel": "room"})] * 8)
            replies = [await ann.reply_to(number) for number in numbers]
            assert {reply["error"]["code"] for reply in replies if "error" in reply} == {111}
            await ann.send_all(*[("presence", {"channel": "room"})] * 20)
            assert (await ann.closed())[0] == 3013


async def test_a_frame_counts_with_its_bytes(tmp_path: Any) -> None:
    with worker(tmp_path, bytes_per_second=10.0, byte_burst=2000.0) as alone:
        async with await CentrifugeClient.open(alone, "user_id=ann") as ann:
            await ann.connect()
            await ann.ask("publish", channel="room", data="x" * 3000)  # what is above the burst is owed
            assert await ann.refused("publish", channel="room", data="x") == 111
