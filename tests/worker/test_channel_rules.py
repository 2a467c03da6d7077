"""The rules of channels, as clients of the hub meet them: in requests, in broadcasts, and when they come back."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.apps import copy_app
from tests.support.hub_client import HubClient, ask, hub_client, receive
from tests.support.worker import Worker, close_opened, worker, workers

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
KEY = {"X-API-Key": "fedcba9876543210fedcba9876543210"}

RULES = {
    "news": {"allow_publish": "server"},
    "members": {"allow_subscribe": "authenticated", "allow_publish": "authenticated"},
    "log": {"allow_subscribe": "nobody"},
    "quiet": {"allow_history": "server", "allow_presence": "nobody"},
    "user:{user_id}:*": {"allow_publish": "anyone"},
}


def rules(**more: Any) -> str:
    return json.dumps({**RULES, **more})


@dataclass
class Authenticated:
    """A worker whose clients show a token with their user id, and the claims that are given."""

    worker: Worker
    claims: dict[str, Any]

    async def open(self, query: str = "") -> ClientConnection:
        user_id = parse_qs(query)["user_id"][0]
        token = jwt.encode({"sub": user_id, "exp": time.time() + 600, **self.claims}, SECRET, "HS256")
        return await self.worker.open(f"{query}&token={token}")


def authenticated(to: Worker, **claims: Any) -> Authenticated:
    return Authenticated(to, claims)


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


@pytest.fixture(scope="module")
def open_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker whose clients choose their own names."""
    settings = {"channels": rules(), "api_key": KEY["X-API-Key"], "client_broadcasts": False, "client_directs": False}
    with worker(tmp_path_factory.mktemp("open"), **settings) as running:
        yield running


@pytest.fixture(scope="module", params=["memory", "redis"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Two workers that authenticate their clients. In memory there is only one, which comes twice."""
    directory = tmp_path_factory.mktemp("workers")
    settings = {"channels": rules(), "jwt_secret": SECRET, "api_key": KEY["X-API-Key"]}
    if request.param == "memory":
        with worker(directory, **settings) as alone:
            yield [alone, alone]
    else:
        with workers(directory, 2, redis_url=request.getfixturevalue("redis_url"), **settings) as both:
            yield both


async def refused(client: HubClient, **request: Any) -> str:
    answer = await client.ask(**request)
    assert (answer["type"], answer["code"]) == ("error", "forbidden"), answer
    return str(answer["message"])


async def test_only_the_server_publishes_where_the_rules_say_so(serving: list[Worker]) -> None:
    ann = await hub_client("ann", authenticated(serving[0]), "news")
    text = await refused(ann, type="publish", channel="news", data="fake")
    assert text == "you may not publish in news: only the server may"
    status, _ = serving[1].request("POST", "/api/websocket/publish", {"channel": "news", "data": "true"}, KEY)
    assert status == 200
    assert await ann.read(1) == ["true"]


async def test_a_channel_that_no_client_may_subscribe_to_still_has_a_history(serving: list[Worker]) -> None:
    ann = await hub_client("ann", authenticated(serving[0]))
    assert await refused(ann, type="subscribe", channel="log") == "you may not subscribe to log: no client may"
    assert (await ann.ask(type="publish", channel="log", data=1))["type"] == "ack"
    assert len((await ann.ask(type="history", channel="log"))["messages"]) == 1


async def test_each_question_has_a_rule_of_its_own(serving: list[Worker]) -> None:
    ann = await hub_client("ann", authenticated(serving[0]), "quiet")
    text = await refused(ann, type="history", channel="quiet")
    assert text == "you may not read the history of quiet: only the server may"
    assert await refused(ann, type="presence", channel="quiet") == "you may not see who is in quiet: no client may"
    assert (await ann.ask(type="publish", channel="quiet", data=1))["type"] == "ack"


async def test_a_channel_of_a_user_is_closed_to_all_others(serving: list[Worker]) -> None:
    ann = await hub_client("ann", authenticated(serving[0]), "user:ann:inbox")
    assert (await ann.ask(type="publish", channel="user:ann:inbox", data=1))["type"] == "ack"
    for other in ("bob", "*", "ann:inbox", "ann:inbox:*", "an"):
        bob = await hub_client(other, authenticated(serving[1]))
        for request in ("subscribe", "publish", "history", "presence"):
            text = await refused(bob, type=request, channel="user:ann:inbox", data=2)
            assert text.endswith(" user:ann:inbox: the channel belongs to another user")
    assert (await ann.next_message())["data"] == 1
    await ann.nothing_arrives()


async def test_a_client_that_chose_its_own_name_is_not_authenticated(
    open_worker: Worker, serving: list[Worker]
) -> None:
    guest = await hub_client("ann", open_worker, "news")
    text = await refused(guest, type="subscribe", channel="members")
    assert text == "you may not subscribe to members: only clients that the server has authenticated may"
    assert (await refused(guest, type="publish", channel="members", data=1)).startswith(
        "you may not publish in members"
    )
    assert (await guest.ask(type="history", channel="members"))["type"] == "history"
    ann = await hub_client("ann", authenticated(serving[0]), "members")
    assert (await ann.ask(type="publish", channel="members", data=1))["type"] == "ack"


async def test_broadcasts_and_direct_messages_can_be_left_to_the_server(open_worker: Worker) -> None:
    ann = await hub_client("ann", open_worker)
    assert await refused(ann, type="broadcast", data=1) == "you may not send broadcasts: only the server may"
    text = await refused(ann, type="direct", user_id="ann", data=1)
    assert text == "you may not send direct messages: only the server may"
    await ann.send({"text": "an object is a broadcast, too"})
    assert (await ann.receive())["code"] == "forbidden"
    await ann.nothing_arrives()
    messages = [{"broadcast": True, "data": "to all"}, {"user_id": "ann", "data": "to you"}]
    assert open_worker.request("POST", "/api/websocket/publish", messages, KEY)[0] == 200
    assert await ann.read(2) == ["to all", "to you"]


async def test_a_client_that_comes_back_leaves_the_channels_that_the_rules_have_closed(
    tmp_path: Path, redis_url: str
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    with (
        worker(before, redis_url=redis_url, worker_id="before") as old,
        worker(after, redis_url=redis_url, worker_id="after", channels=rules()) as new,
    ):
        ann = await hub_client("ann", old, "log", "members", "news", "user:bob:inbox", "user:ann:inbox")
        for _ in range(2):
            await ann.drop()
            welcome = await ann.connect(new)
            assert welcome["resumed"]
            assert welcome["channels"].keys() == {"broadcast", "direct", "news", "user:ann:inbox"}
            assert welcome["refused"] == dict.fromkeys(("log", "members", "user:bob:inbox"), "forbidden")
        ann.since = {"news": ann.since["news"]}
        await ann.drop()
        assert "refused" not in await ann.connect(new), "its session has forgotten the others"


async def test_the_application_decides_by_the_claims_of_the_token(tmp_path: Path) -> None:
    copy_app("claims", tmp_path)
    with worker(tmp_path, jwt_secret=SECRET, authorize="claims:authorize", channels=rules()) as alone:
        may = ["subscribe room", "publish room", "publish news", "publish broadcast"]
        to = authenticated(alone, may=may)
        ann = await hub_client("ann", to, "room")
        assert (await ann.ask(type="publish", channel="room", data=1))["type"] == "ack"
        assert (await ann.ask(type="broadcast", data=1))["type"] == "ack"
        assert await refused(ann, type="history", channel="room") == "you may not read the history of room"
        assert (await refused(ann, type="publish", channel="news", data=1)).endswith("only the server may")
        await ann.drop()
        assert "room" in (await ann.connect(to))["channels"]
        to.claims["may"] = []
        await ann.drop()
        assert (await ann.connect(to))["refused"] == {"room": "forbidden"}


async def test_without_authentication_the_application_is_told_so(tmp_path: Path) -> None:
    copy_app("claims", tmp_path)
    with worker(tmp_path, authorize="claims:authorize") as alone:
        guest = await alone.connect("ann")
        assert (await ask(guest, type="subscribe", channel="room"))["code"] == "forbidden"
        await guest.send('{"text": 1}')
        assert (await receive(guest))["message"] == "you may not send broadcasts"
