"""Users, sessions and channels over HTTP, on two workers that share a Redis, and on one in memory."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.hub_client import close_of
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually
from tests.support.worker import Worker, close_opened, worker, workers

pytestmark = pytest.mark.anyio

KEY = {"X-API-Key": "sesame"}
CHANNELS = json.dumps({"*": {}, "closed:*": {"allow_subscribe": "server"}})


@pytest.fixture(scope="module", params=["redis", "memory"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Two workers that share a Redis; or twice the same one, in memory."""
    directory = tmp_path_factory.mktemp("management")
    if request.param == "memory":
        with worker(directory, api_key="sesame", channels=CHANNELS, protocol="wsd") as alone:
            yield [alone, alone]
        return
    with (
        valkey(directory / "redis", unused_port()) as url,
        workers(directory, 2, api_key="sesame", channels=CHANNELS, redis_url=url, protocol="wsd") as running,
    ):
        yield running


@pytest.fixture(autouse=True)
async def closing() -> AsyncIterator[None]:
    yield
    await close_opened()


def ask(at: Worker, method: str, path: str, body: object = None) -> Any:
    status, answer = at.request(method, f"/api/websocket/{path}", body, KEY)
    assert status == 200, answer
    return answer


def sessions_of(at: Worker, user_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(at, "GET", f"sessions?user_id={user_id}")["sessions"]
    return found


async def joined(at: Worker, user_id: str) -> tuple[ClientConnection, Any]:
    """Connect a client. Return it with its welcome."""
    connection = await at.open(f"user_id={user_id}")
    return connection, json.loads(await connection.recv())


async def next_of(connection: ClientConnection, kind: str) -> Any:
    """Return the next message of a type."""
    while True:
        message = json.loads(await connection.recv())
        if message["type"] == kind:
            return message


async def test_a_user_is_let_into_a_channel_and_out_on_all_workers(two: list[Worker]) -> None:
    ann, also_ann, bob = [await at.connect(user) for at, user in zip(two + two, ("ann", "ann", "bob"), strict=False)]
    assert ask(two[0], "POST", "subscribe", {"user_id": "ann", "channel": "closed:a"}) == {"connections": 2}
    assert ask(two[1], "POST", "subscribe", {"user_id": "ann", "channel": "closed:a"}) == {"connections": 0}
    for connection in (ann, also_ann):
        assert (await next_of(connection, "subscribed"))["channel"] == "closed:a"
    ask(two[1], "POST", "publish", {"channel": "closed:a", "data": "for ann"})
    for connection in (ann, also_ann):
        assert (await next_of(connection, "message"))["data"] == "for ann"
    present = ask(two[0], "GET", "presence/closed:a")
    assert (present["channel"], present["count"]) == ("closed:a", 2)
    assert {member["user_id"] for member in present["members"]} == {"ann"}
    await bob.send('{"type": "subscribe", "channel": "closed:a", "id": 1}')
    assert (await next_of(bob, "error"))["code"] == "forbidden"
    assert ask(two[1], "POST", "unsubscribe", {"user_id": "ann", "channel": "closed:a"}) == {"connections": 2}
    for connection in (ann, also_ann):
        assert await next_of(connection, "unsubscribed") == {
            "type": "unsubscribed",
            "channel": "closed:a",
            "reason": "server",
        }
    assert ask(two[0], "GET", "presence/closed:a")["count"] == 0


async def test_a_client_that_is_away_is_in_the_channel_when_it_comes_back(two: list[Worker]) -> None:
    ann, welcome = await joined(two[0], "away")
    ann.transport.abort()
    await eventually(lambda: [s["state"] for s in sessions_of(two[0], "away")] == ["detached"])
    assert ask(two[1], "POST", "subscribe", {"user_id": "away", "channel": "closed:b"}) == {"connections": 0}
    back = await two[1].open(f"user_id=away&session={quote(welcome['resume_token'])}")
    await back.send('{"type": "resume"}')
    assert "closed:b" in (await next_of(back, "welcome"))["channels"]
    ask(two[0], "POST", "publish", {"channel": "closed:b", "data": 1})
    assert (await next_of(back, "message"))["data"] == 1


async def test_sessions_are_listed_and_ended_with_a_code_of_the_application(two: list[Worker]) -> None:
    one, other, bystander = [await at.connect(user) for at, user in zip(two + two, ("eve", "eve", "fay"), strict=False)]
    listed = ask(two[0], "GET", "sessions?user_id=eve")
    assert listed["total"] == 2
    assert {session["user_id"] for session in listed["sessions"]} == {"eve"}
    assert "token" not in listed["sessions"][0]
    assert len(ask(two[0], "GET", "sessions?limit=1")["sessions"]) == 1
    ended = ask(two[1], "POST", "disconnect", {"user_id": "eve", "code": 4600, "reason": "banned"})
    assert len(ended["sessions"]) == 2
    for connection in (one, other):
        assert await close_of(connection) == (4600, "banned")
    assert ask(two[0], "GET", "sessions?user_id=eve") == {"total": 0, "sessions": []}
    [session] = ask(two[0], "GET", "sessions?user_id=fay")["sessions"]
    ask(two[1], "POST", "disconnect", {"session_id": session["session_id"]})
    assert (await close_of(bystander))[0] == 4500


async def test_a_message_leaves_out_one_connection_now_and_after_a_resume(two: list[Worker]) -> None:
    ann, welcome = await joined(two[0], "gil")
    hal = await two[1].connect("hal")
    for connection in (ann, hal):
        await connection.send('{"type": "subscribe", "channel": "left:out"}')
        await next_of(connection, "subscribed")

    def publish(data: object, **more: object) -> None:
        ask(two[1], "POST", "publish", {"channel": "left:out", "data": data, **more})

    publish("not for gil", exclude=welcome["session_id"])
    publish("for all")
    assert [(await next_of(hal, "message"))["data"] for _ in range(2)] == ["not for gil", "for all"]
    position = await next_of(ann, "position")
    assert (position["channel"], position["offset"]) == ("left:out", 1)
    assert (await next_of(ann, "message"))["data"] == "for all"
    ann.transport.abort()
    publish("not for gil either", exclude=welcome["session_id"])
    publish("for gil, too")
    back = await two[1].open(f"user_id=gil&session={quote(welcome['resume_token'])}")
    since = {"left:out": {"offset": 2, "epoch": position["epoch"]}}
    await back.send(json.dumps({"type": "resume", "since": since}))
    assert (await next_of(back, "position"))["offset"] == 3
    missed = await next_of(back, "message")
    assert (missed["data"], missed["offset"]) == ("for gil, too", 4)
    assert [(await next_of(hal, "message"))["data"] for _ in range(2)] == ["not for gil either", "for gil, too"]
    page = ask(two[0], "GET", "history/left:out")
    assert [message["data"] for message in page["messages"]][::2] == ["not for gil", "not for gil either"]
    assert welcome["session_id"] not in json.dumps(page)


async def test_a_history_is_deleted_and_offsets_go_on(two: list[Worker]) -> None:
    await two[0].connect("ida")
    for number in range(3):
        ask(two[0], "POST", "publish", {"channel": "gone", "data": number})
    assert ask(two[1], "DELETE", "history/gone") == {"deleted": True}
    assert ask(two[0], "GET", "history/gone")["messages"] == []
    result = ask(two[0], "POST", "publish", {"channel": "gone", "data": "new"})["results"][0]
    assert result["offset"] == 4
    assert [message["data"] for message in ask(two[1], "GET", "history/gone")["messages"]] == ["new"]
    late = await two[1].connect("late")
    since = {"offset": 1, "epoch": result["epoch"]}
    await late.send(json.dumps({"type": "subscribe", "channel": "gone", "since": since}))
    assert (await next_of(late, "subscribed"))["recovered"] is False


async def test_the_largest_channels_are_listed(two: list[Worker]) -> None:
    one = await two[0].connect("jon")
    await one.send('{"type": "subscribe", "channel": "largest"}')
    await next_of(one, "subscribed")
    found = ask(two[1], "GET", "channels?limit=1000")
    assert found["complete"] is True
    assert {"name": "largest", "connections": 1} in found["channels"]


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        ("GET", "presence/a b", None, "a channel name has"),
        ("GET", "presence/room?limit=5000", None, "limit must be an integer from 0 to 1000, got '5000'"),
        ("GET", "sessions?limit=-1", None, "limit must be an integer"),
        ("POST", "disconnect", {}, "a user_id or a session_id is needed, and not both"),
        ("POST", "disconnect", {"user_id": "a", "code": 1005}, "1005"),
        ("POST", "disconnect", {"user": "a"}, "unknown field `user`"),
        ("POST", "subscribe", {"user_id": "a"}, "missing required field `channel`"),
        ("POST", "subscribe", {"user_id": "", "channel": "room"}, "user_id"),
        ("POST", "unsubscribe", {"user_id": "a", "channel": "broadcast"}, "every client is in the channel broadcast"),
        ("POST", "subscribe", [], "Expected `object`, got `array`"),
    ],
)
async def test_a_request_that_cannot_be_carried_out_is_answered_in_one_line(
    two: list[Worker], method: str, path: str, body: object, problem: str
) -> None:
    status, answer = two[0].request(method, f"/api/websocket/{quote(path, safe='/?=&:')}", body, KEY)
    assert status == 400
    assert problem in answer["error"]
    assert "\n" not in answer["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "presence/room"),
        ("GET", "channels"),
        ("GET", "sessions"),
        ("POST", "disconnect"),
        ("POST", "subscribe"),
        ("POST", "unsubscribe"),
        ("DELETE", "history/room"),
    ],
)
async def test_nothing_is_done_without_the_key(two: list[Worker], method: str, path: str) -> None:
    assert two[0].request(method, f"/api/websocket/{path}", {}, {"X-API-Key": "guess"})[0] == 401
    other = "PUT"
    status, answer = two[0].request(other, f"/api/websocket/{path}", {}, KEY)
    assert status == 405
    assert other in answer["error"]


async def test_a_worker_that_stands_alone_waits_for_no_others(tmp_path: Path) -> None:
    with worker(tmp_path, api_key="sesame", protocol="wsd") as alone:
        assert ask(alone, "POST", "subscribe", {"user_id": "nobody", "channel": "room"}) == {"connections": 0}
