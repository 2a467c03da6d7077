"""What an application does with users and sessions: on two workers, by `cluster` and by `cluster.sync`."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import msgspec
import pytest
from fastapi import FastAPI, HTTPException, WebSocket
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import until
from wsd import Cluster
from wsd.testing import TestCluster

cluster = Cluster()
app = FastAPI()
app.mount("/live", cluster.hub)


@app.websocket("/own/{name}")
async def own(websocket: WebSocket, name: str, token: str = "") -> None:
    async with cluster.serve(websocket, user_id=name, resume=token) as client:
        await client.send({"token": client.resume_token, "channels": sorted(client.channels)})
        async for text in client:
            if text == "channels?":
                await client.send(sorted(client.channels))
            else:
                await client.publish("room", text, exclude=client.session_id)


@app.post("/{action}")
async def act(action: str, body: dict[str, Any]) -> Any:
    try:
        return msgspec.to_builtins(await getattr(cluster, action)(**body))
    except ValueError as exc:
        raise HTTPException(400, str(exc)) from None


@app.post("/sync/{action}")
def act_in_a_thread(action: str, body: dict[str, Any]) -> Any:
    return msgspec.to_builtins(getattr(cluster.sync, action)(**body))


@pytest.fixture(scope="module")
def serving() -> Iterator[TestCluster]:
    with TestCluster(app) as running:
        yield running


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def client(serving: TestCluster, opened: ExitStack, path: str) -> ClientConnection:
    """Connect a client. Each call takes the next worker."""
    connection: ClientConnection = connect(serving.url(path).replace("http", "ws"))
    return opened.enter_context(connection)


def hear(connection: ClientConnection) -> Any:
    return json.loads(connection.recv(timeout=10))


@pytest.fixture(params=["", "sync/"])
def ask(request: pytest.FixtureRequest, serving: TestCluster) -> Callable[..., Any]:
    """Call a method of the cluster in the application: on its event loop, and in a thread."""

    def call(action: str, **body: object) -> Any:
        answer = httpx2.post(serving.url(f"/{request.param}{action}"), json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return call


def test_a_user_is_let_into_a_channel_and_out(serving: TestCluster, opened: ExitStack, ask: Callable[..., Any]) -> None:
    one, two = [client(serving, opened, "/own/ann") for _ in range(2)]
    assert [hear(connection)["channels"] for connection in (one, two)] == [[], []]
    hub = client(serving, opened, "/live/ws?user_id=ann")
    assert hear(hub)["type"] == "welcome"
    assert ask("subscribe", user_id="ann", channel="room") == 3
    assert hear(hub)["type"] == "subscribed"
    ask("publish", channel="room", data={"for": "all"})
    assert hear(one) == hear(two) == hear(hub)["data"] == {"for": "all"}
    one.send("not for me")
    assert two.recv(timeout=10) == "not for me"
    assert hear(hub)["data"] == "not for me"
    one.send("channels?")
    assert hear(one) == ["room"], "nothing came before, neither the own message nor a notice of the hub's protocol"
    assert ask("unsubscribe", user_id="ann", channel="room") == 3
    assert hear(hub) == {"type": "unsubscribed", "channel": "room", "reason": "server"}
    one.send("channels?")
    assert hear(one) == []


def test_sessions_are_listed_and_ended(serving: TestCluster, opened: ExitStack, ask: Callable[..., Any]) -> None:
    one, two = [client(serving, opened, "/own/eve") for _ in range(2)]
    token = hear(one)["token"]
    hear(two)
    listed = ask("sessions", user_id="eve")
    assert listed["total"] == 2
    assert {session["worker_id"] for session in listed["sessions"]} == {"worker-1", "worker-2"}
    assert token.partition(".")[2] not in json.dumps(listed)
    ended = ask("disconnect", user_id="eve", code=4700, reason="banned")
    assert {session["user_id"] for session in ended} == {"eve"}
    for connection in (one, two):
        with pytest.raises(ConnectionClosedError, match=r"4700.*banned"):
            connection.recv(timeout=10)
    until(lambda: ask("sessions", user_id="eve")["total"] == 0)
    back = client(serving, opened, f"/own/eve?token={token}")
    assert hear(back)["token"].partition(".")[0] != token.partition(".")[0], "the session is over"
    back.close()
    until(lambda: ask("sessions", user_id="eve")["total"] == 0)


def test_a_history_is_deleted(ask: Callable[..., Any]) -> None:
    ask("publish", channel="deleted", data="old")
    ask("delete_history", channel="deleted")
    assert ask("history", channel="deleted")["messages"] == []
    position = ask("publish", channel="deleted", data="new")["position"]
    page = ask("history", channel="deleted")
    assert [message["data"] for message in page["messages"]] == ["new"]
    assert page["position"] == position
    ask("delete_history", channel="deleted")


def test_nobody_and_wrong_names_are_refused(serving: TestCluster) -> None:
    for action, body, problem in (
        ("disconnect", {}, "a user_id or a session_id is needed"),
        ("disconnect", {"user_id": "a", "code": 1006}, "1006"),
        ("subscribe", {"user_id": "", "channel": "room"}, "user_id"),
        ("unsubscribe", {"user_id": "a", "channel": "two words"}, "channel name"),
    ):
        answer = httpx2.post(serving.url(f"/{action}"), json=body)
        assert (answer.status_code, problem in answer.text) == (400, True)
