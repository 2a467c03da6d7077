"""Subscription tokens, as clients of the hub show them, and what becomes of a member when its token ends."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.hub_client import HubClient, close_of, hub_client
from tests.support.waiting import eventually
from tests.support.worker import Worker, close_opened, worker, workers

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
LEVELS = dict.fromkeys(("allow_subscribe", "allow_publish", "allow_history", "allow_presence"), "token")
RULES = {"room:*": LEVELS, "user:{user_id}:*": LEVELS}
MEMBER_ENDS = {"type": "unsubscribed", "channel": "room:1", "reason": "token_needed"}


def signed(seconds: float = 600, **claims: Any) -> str:
    return jwt.encode({"exp": time.time() + seconds, **claims}, SECRET, "HS256")


@dataclass
class Authenticated:
    """A worker whose clients show a token with their user id."""

    worker: Worker

    async def open(self, query: str = "") -> ClientConnection:
        return await self.worker.open(f"{query}&token={signed(sub=parse_qs(query)['user_id'][0])}")


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


@pytest.fixture(scope="module", params=["memory", "redis"])
def serving(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Authenticated, Authenticated]]:
    """Two workers of a cluster. In memory there is only one, which comes twice."""
    directory = tmp_path_factory.mktemp("workers")
    settings = {"channels": json.dumps(RULES), "jwt_secret": SECRET}
    if request.param == "memory":
        with worker(directory, **settings) as alone:
            yield Authenticated(alone), Authenticated(alone)
    else:
        with workers(directory, 2, redis_url=request.getfixturevalue("redis_url"), **settings) as (one, other):
            yield Authenticated(one), Authenticated(other)


async def member(to: Authenticated, seconds: float = 600, **claims: Any) -> HubClient:
    ann = await hub_client("ann", to)
    await ann.subscribe("room:1", token=signed(seconds, channel="room:1", **claims))
    return ann


async def code_of(client: HubClient, **request: Any) -> str:
    answer = await client.ask(**request)
    return str(answer["code"] if answer["type"] == "error" else answer["type"])


async def test_a_channel_with_tokens_is_closed_without_one(serving: tuple[Authenticated, Authenticated]) -> None:
    ann = await hub_client("ann", serving[0])
    for request in ("subscribe", "publish", "history", "presence"):
        answer = await ann.ask(type=request, channel="room:1", data=1)
        assert answer["code"] == "token_needed"
        assert answer["message"].endswith(" room:1: it needs a subscription token that allows it")


@pytest.mark.parametrize(
    ("claims", "code", "why"),
    [
        ({"channel": "room:2"}, "forbidden", "the token is for another channel"),
        ({"channel": "room:1", "sub": "bob"}, "forbidden", "the token is for another user"),
        ({"sub": "ann"}, "forbidden", "the token names no channel"),
        ({"channel": "room:1", "exp": 1}, "token_needed", "the token has expired"),
        ({"channel": "room:1", "nbf": 4e9}, "token_needed", "the token is not valid"),
    ],
)
async def test_a_token_for_something_else_is_refused(
    serving: tuple[Authenticated, Authenticated], claims: dict[str, Any], code: str, why: str
) -> None:
    ann = await hub_client("ann", serving[0])
    answer = await ann.ask(type="subscribe", channel="room:1", token=signed(**claims))
    assert (answer["type"], answer["code"]) == ("error", code)
    assert answer["message"] == f"you may not subscribe to room:1: {why}"


async def test_a_token_opens_its_channel_to_read(serving: tuple[Authenticated, Authenticated]) -> None:
    ann = await member(serving[0], sub="ann")
    assert await code_of(ann, type="history", channel="room:1") == "history"
    assert await code_of(ann, type="presence", channel="room:1") == "presence"
    assert await code_of(ann, type="publish", channel="room:1", data=1) == "token_needed"
    await ann.subscribe("room:2", token=signed(channel="room:*"))
    await ann.ask(type="unsubscribe", channel="room:2")
    assert await code_of(ann, type="history", channel="room:2") == "token_needed", "it is no member any more"
    assert await code_of(ann, type="subscribe", channel="room:3") == "token_needed"


async def test_a_token_may_allow_to_publish(serving: tuple[Authenticated, Authenticated]) -> None:
    ann = await member(serving[0], allow=["subscribe", "publish"])
    assert await code_of(ann, type="publish", channel="room:1", data="hi") == "ack"
    assert (await ann.next_message())["data"] == "hi"


async def test_no_token_opens_the_channel_of_another_user(serving: tuple[Authenticated, Authenticated]) -> None:
    ann = await hub_client("ann", serving[0])
    await ann.subscribe("user:ann:inbox", token=signed(channel="*"))
    assert await code_of(ann, type="subscribe", channel="user:bob:inbox", token=signed(channel="*")) == "forbidden"


async def test_a_token_for_a_channel_admits_no_connection(serving: tuple[Authenticated, Authenticated]) -> None:
    connection = await serving[0].worker.open(f"token={signed(sub='ann', channel='room:1')}")
    assert await close_of(connection) == (1008, "the token is one for a channel, and not for a connection")


async def test_a_member_leaves_when_its_token_ends(serving: tuple[Authenticated, Authenticated]) -> None:
    ann = await member(serving[0], 2.5)
    assert await ann.receive() == MEMBER_ENDS
    assert await code_of(ann, type="history", channel="room:1") == "token_needed"
    other = await member(serving[1], allow=["subscribe", "publish"])
    assert await code_of(other, type="publish", channel="room:1", data="later") == "ack"
    await ann.nothing_arrives()
    del ann.since["room:1"]
    await ann.drop()
    welcome = await ann.connect(serving[1])
    assert (welcome["resumed"], "room:1" in welcome["channels"], "refused" in welcome) == (True, False, False)


async def test_a_member_that_shows_a_new_token_in_time_goes_on(serving: tuple[Authenticated, Authenticated]) -> None:
    ann = await member(serving[0], 2.5)
    first_ends = time.time() + 2.5
    answer = await ann.ask(
        type="subscribe", channel="room:1", token=signed(channel="room:1", allow=["subscribe", "publish"])
    )
    assert answer["type"] == "ack"
    assert 595 < answer["token_expires_in"] <= 600
    assert await code_of(ann, type="subscribe", channel="room:1", token="rubbish") == "forbidden"
    await eventually(lambda: time.time() > first_ends)
    assert await code_of(ann, type="publish", channel="room:1", data="on") == "ack"
    await ann.drop()
    assert "room:1" in (await ann.connect(serving[1]))["channels"]
    assert await code_of(ann, type="publish", channel="room:1", data="and on") == "ack"


async def test_a_client_that_comes_back_is_in_the_channel_until_its_token_ends(
    serving: tuple[Authenticated, Authenticated],
) -> None:
    ann = await member(serving[0], 4)
    ends = time.time() + 4
    await ann.drop()
    assert "room:1" in (await ann.connect(serving[1]))["channels"]
    assert await ann.receive() == MEMBER_ENDS
    assert time.time() > ends - 1.5

    ann = await member(serving[0], 2)
    ends = time.time() + 2
    await ann.drop()
    await eventually(lambda: time.time() > ends)
    welcome = await ann.connect(serving[1])
    assert welcome["resumed"]
    assert welcome["refused"] == {"room:1": "token_needed"}
    await ann.subscribe("room:1", token=signed(channel="room:1"), since=ann.since["room:1"])
