"""The stand-in for the hub: it answers as the hub does, and each of its faults is seen by a client."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_sync
from websockets.typing import Subprotocol

from tests.support.hub_client import ask, close_of, hub_client, receive
from tests.support.misbehaving_hub import Limits, MisbehavingHub
from tests.support.misbehaving_hub.faults import (
    GARBAGE,
    RAW_GARBAGE,
    Answer,
    CloseAtOnce,
    CloseOn,
    Fault,
    ForgetSession,
    GoAway,
    NeverAnswer,
    NeverReply,
    NeverWelcome,
    NotDurableYet,
    Refuse,
    RefuseResubscription,
    ReplyLate,
    ResetAtOnce,
    Say,
    SayRaw,
    SayTwice,
    Unrecovered,
    captive_portal,
    die_on,
    in_channel,
    of_type,
    redirect,
    too_large,
    too_many,
)
from tests.support.waiting import eventually, long_run
from tests.support.worker import close_opened, worker

pytestmark = [pytest.mark.anyio, long_run]


class At:
    """A hub to which the clients of `hub_client` connect."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, query: str = "") -> ClientConnection:
        return await connect(f"{self.url}?{query}", ping_interval=None)


def at(hub: MisbehavingHub) -> At:
    return At(hub.url)


# It behaves as the hub does

Opening = Callable[[str], Awaitable[ClientConnection]]


@asynccontextmanager
async def real_hub(directory: Path) -> AsyncIterator[Opening]:
    with worker(directory, messages_per_second=5.0, message_burst=60.0) as running:
        yield running.open
        await close_opened()


@asynccontextmanager
async def stand_in(directory: Path) -> AsyncIterator[Opening]:
    async with MisbehavingHub(limits=Limits(messages_per_second=5.0, message_burst=60.0)) as hub:
        yield at(hub).open


class Transcript(list[Any]):
    """What a hub said, without what differs from hub to hub: each new name of that kind is replaced by its number."""

    NAMES = ("session_id", "worker_id", "node_id", "resume_token", "epoch", "uid", "client")

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[str, str], str] = {}

    def add(self, message: dict[str, Any]) -> None:
        self.append(self._plain(message))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._name(key, each) for key, each in value.items()}
        return [self._plain(each) for each in value] if isinstance(value, list) else value

    def _name(self, key: str, value: Any) -> Any:
        if key == "message":
            return "..."
        if key == "limits":
            return sorted(value)
        if key in self.NAMES:
            return self._known.setdefault((key, value), f"{key} {len(self._known)}")
        return self._plain(value)


REQUESTS: list[dict[str, Any]] = [
    {"type": "subscribe", "channel": "room"},
    {"type": "publish", "channel": "room", "data": {"text": "häß"}, "idempotency_key": "k1"},
    {"type": "publish", "channel": "room", "data": "again", "idempotency_key": "k1"},
    {"type": "publish", "channel": "elsewhere", "data": [1, 2, 3]},
    {"type": "broadcast", "data": "to all"},
    {"type": "direct", "user_id": "ann", "data": "to myself"},
    {"type": "direct", "user_id": "bob", "data": "to another"},
    {"type": "presence", "channel": "room"},
    {"type": "history", "channel": "elsewhere", "since": 0, "limit": 10, "reverse": False},
    {"type": "history", "channel": "room", "since": 0, "limit": 1, "reverse": True},
    {"type": "subscribe", "channel": "elsewhere", "since": {"offset": 5, "epoch": "other"}},
    {"type": "unsubscribe", "channel": "elsewhere"},
    {"type": "ping"},
    {"type": "nothing of the kind"},
    {"type": "resume", "token": "x"},
]


async def talk(open_hub: Opening) -> Transcript:
    """Say everything that a client may say, lose the connection, come back twice, and return what the hub said."""
    heard = Transcript()
    connection = await open_hub("user_id=ann&username=Ann")
    welcome = await receive(connection)
    heard.add(welcome)

    async def say(request: dict[str, Any], until_id: int) -> None:
        # The order between an answer and the messages that the request causes is not promised.
        await connection.send(json.dumps({**request, "id": until_id}))
        # A ping would be answered at once, while the request before it is still carried out.
        await connection.send(json.dumps({"type": "history", "channel": "unused", "id": "end"}))
        said = []
        while (message := await receive(connection)).get("id") != "end":
            said.append(message)
        for message in sorted(said, key=lambda each: each["type"]):
            heard.add(message)

    for number, request in enumerate(REQUESTS):
        await say(request, number)
    await connection.send("{")
    heard.add(await receive(connection))
    room = {"room": {"offset": 0, "epoch": (await ask(connection, type="history", channel="room"))["epoch"]}}
    connection.transport.abort()
    await connection.wait_closed()

    for token in (welcome["resume_token"], "nonsense"):
        connection = await open_hub("user_id=ann&username=Ann&resume=1")
        await connection.send(json.dumps({"type": "resume", "token": token, "since": room}))
        heard.add(await receive(connection))
        heard.add(await receive(connection))
        await say({"type": "publish", "channel": "room", "data": "back"}, 99)
    for _ in range(200):  # above the rate, and regardless of the answers
        await connection.send('{"type": "ping"}')
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.recv()
    heard.append((await close_of(connection))[0])
    return heard


async def test_it_says_what_the_hub_says(tmp_path: Path) -> None:
    async with real_hub(tmp_path) as hub:
        wanted = await talk(hub)
    async with stand_in(tmp_path) as hub:
        assert await talk(hub) == wanted


# How a connection begins


async def opened(hub: MisbehavingHub, query: str = "user_id=ann") -> ClientConnection:
    return await at(hub).open(query)


@pytest.mark.parametrize("count", [1, 3])
async def test_connections_are_reset_as_soon_as_they_are_accepted(count: int) -> None:
    async with MisbehavingHub({number: [ResetAtOnce()] for number in range(1, count + 1)}) as hub:
        for _ in range(count):
            with pytest.raises(ConnectionResetError):
                await opened(hub)
        assert (await receive(await opened(hub)))["type"] == "welcome"
        assert [each.number for each in hub.records.handshakes] == [count + 1]
        assert len(hub.records.accepted) == count + 1


@pytest.mark.parametrize(
    ("answer", "header"),
    [
        (Answer(401), None),
        (Answer(403), None),
        (Answer(404), None),
        (too_many("7"), ("Retry-After", "7")),
        (too_many("Thu, 26 Nov 2099 10:00:00 GMT"), ("Retry-After", "Thu, 26 Nov 2099 10:00:00 GMT")),
        (Answer(502), None),
        (Answer(503, {"Retry-After": "1"}), ("Retry-After", "1")),
        (captive_portal(), ("Content-Type", "text/html")),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
async def test_a_handshake_is_answered_with_any_status(answer: Answer, header: tuple[str, str] | None) -> None:
    async with MisbehavingHub({1: [answer]}) as hub:
        with pytest.raises(InvalidStatus) as refused:
            await opened(hub)
        assert refused.value.response.status_code == answer.status
        assert refused.value.response.body == answer.body.encode()
        if header is not None:
            assert refused.value.response.headers[header[0]] == header[1]
        assert (await receive(await opened(hub)))["type"] == "welcome"


async def test_a_handshake_is_redirected() -> None:
    async with MisbehavingHub() as there, MisbehavingHub(always=[redirect(there.url)]) as hub:
        await receive(await opened(hub))
        assert len(there.records.handshakes) == 1


@pytest.mark.parametrize("fault", [NeverAnswer(), NeverWelcome()], ids=lambda fault: type(fault).__name__)
async def test_a_hub_says_nothing_and_closes_nothing(fault: Fault) -> None:
    async with MisbehavingHub({1: [fault]}) as hub:
        waiting = asyncio.create_task(opened(hub))
        await eventually(lambda: hub.records.handshakes)
        if isinstance(fault, NeverWelcome):
            waiting = asyncio.create_task((await waiting).recv())  # type: ignore[arg-type]
        # Another client is served meanwhile: the first one would have had its answer by now.
        assert (await receive(await opened(hub)))["type"] == "welcome"
        assert not waiting.done()
        assert hub.records.ended == []
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009, 1011, 1012, 1013, 4000, 4401, 4408, 4429, 4500])
@pytest.mark.parametrize("welcome", [True, False])
async def test_a_connection_is_closed_at_once_with_a_code(code: int, welcome: bool) -> None:
    async with MisbehavingHub({1: [CloseAtOnce(code, "because", welcome=welcome)]}) as hub:
        connection = await opened(hub)
        if welcome:
            assert (await receive(connection))["type"] == "welcome"
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        assert await close_of(connection) == (code, "because")
        ended = (await eventually(lambda: hub.records.ended))[0]
        assert (ended.code, ended.by_client) == (code, False)


async def test_a_port_is_closed_and_opened_again() -> None:
    async with MisbehavingHub({1: [GoAway(0.3)]}) as hub:
        connection = await opened(hub)
        began = time.monotonic()
        assert (await close_of(connection))[0] == 1006
        with pytest.raises(ConnectionRefusedError):
            await opened(hub)
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                assert (await receive(await opened(hub)))["type"] == "welcome"
                break
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.29
        hub.close_port()
        with pytest.raises(ConnectionRefusedError):
            await opened(hub)
        assert hub.connections == [2]  # those that are open stay open


# What a connection is sent


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_is_sent_after_the_welcome(what: str) -> None:
    async with MisbehavingHub({1: [Say((GARBAGE[what],))]}) as hub:
        connection = await opened(hub)
        await receive(connection)
        item, heard = GARBAGE[what], await connection.recv()
        assert heard == item if isinstance(item, str | bytes) else json.loads(heard) == item
        assert (await ask(connection, type="ping"))["type"] == "pong"


@pytest.mark.parametrize("what", RAW_GARBAGE)
async def test_a_broken_frame_is_sent(what: str) -> None:
    async with MisbehavingHub({1: [SayRaw(RAW_GARBAGE[what])]}) as hub:
        connection = await opened(hub)
        await receive(connection)
        if what.startswith("half"):
            hub.close(1006)
        with pytest.raises(ConnectionClosed):
            await connection.recv()


async def test_messages_come_twice() -> None:
    async with MisbehavingHub({1: [SayTwice()]}) as hub:
        ann = await hub_client("ann", at(hub), "room")
        hub.publish("room", "twice")
        first = await ann.receive()
        assert first["data"] == "twice"
        assert await ann.receive() == first
        await ann.nothing_arrives()


async def test_a_session_and_what_was_missed_are_forgotten() -> None:
    async with MisbehavingHub({2: [ForgetSession(), Unrecovered("room")]}) as hub:
        ann = await hub_client("ann", at(hub), "room", "other")
        await ann.drop()
        hub.publish("room", 1)
        hub.publish("other", 2)
        welcome = await ann.connect(at(hub))
        assert not welcome["resumed"]
        assert welcome["channels"]["room"] == {"offset": 1, "epoch": "e2", "recovered": False, "reason": "trimmed"}
        assert await ann.read(1) == [2]
        await ann.drop()
        hub.forget_sessions()
        hub.lose_histories()
        welcome = await ann.connect(at(hub))
        assert not welcome["resumed"]
        assert welcome["channels"]["room"]["reason"] == "epoch_changed"


async def test_a_resubscription_is_refused() -> None:
    async with MisbehavingHub({2: [RefuseResubscription("room", "channel_full")]}) as hub:
        ann = await hub_client("ann", at(hub), "room", "other")
        await ann.drop()
        welcome = await ann.connect(at(hub))
        assert sorted(welcome["channels"]) == ["broadcast", "direct", "other"]
        assert (await ann.ask(type="subscribe", channel="room"))["code"] == "channel_full"
        hub.publish("room", "not for ann")
        await ann.nothing_arrives()


async def test_a_client_whose_resume_is_late_is_closed() -> None:
    async with MisbehavingHub(resume_seconds=0.1) as hub:
        connection = await opened(hub, "user_id=ann&resume=1")
        assert (await close_of(connection))[0] == 4408


async def test_a_session_goes_on_in_another_connection() -> None:
    async with MisbehavingHub() as hub:
        ann = await hub_client("ann", at(hub), "room")
        first = ann.connection
        assert (await ann.connect(at(hub)))["resumed"]
        assert (await close_of(first))[0] == 4500
        await eventually(lambda: hub.records.ended)
        hub.publish("room", "once")
        assert await ann.read(1) == ["once"]
        await ann.nothing_arrives()
        await ann.close()
        await eventually(lambda: [each for each in hub.records.ended if each.by_client])
        assert not (await ann.connect(at(hub)))["resumed"]  # a clean close has ended the session


async def test_the_newest_messages_come_with_a_subscription() -> None:
    async with MisbehavingHub() as hub:
        for number in range(5):
            hub.publish("room", number)
        ann = await hub_client("ann", at(hub))
        state = await ann.subscribe("room", last=2)
        assert (state["recovered"], state["count"], state["offset"]) == (True, 2, 5)
        hub.publish("room", 5)
        assert await ann.read(3) == [3, 4, 5]


# How requests are answered

CODES = [
    "rate_limited",
    "byte_rate_limited",
    "not_stored",
    "unavailable",
    "forbidden",
    "channel_full",
    "internal_error",
    "invalid_request",
]


@pytest.mark.parametrize("code", CODES)
async def test_requests_are_refused_for_a_while(code: str) -> None:
    async with MisbehavingHub(always=[Refuse(code, of_type("publish"), times=2)]) as hub:
        connection = await opened(hub)
        answers = [await ask(connection, type="publish", channel="room", data=n) for n in range(3)]
        assert [answer.get("code") for answer in answers] == [code, code, None]
        assert hub.stored("room") == [2]


@pytest.mark.parametrize("fault", [too_large(1000), CloseOn(1009, in_channel("room", "publish")), die_on("x" * 2000)])
async def test_a_message_ends_the_connection_each_time(fault: CloseOn) -> None:
    async with MisbehavingHub(always=[fault]) as hub:
        for number in (1, 2, 3):
            connection = await opened(hub)
            assert (await ask(connection, type="publish", channel="other", data="fine"))["type"] == "ack"
            with pytest.raises(ConnectionClosed):
                await ask(connection, type="publish", channel="room", data="x" * 2000)
            assert (await close_of(connection))[0] == fault.code
            assert len(hub.records.requests("publish", number=number)) == 2
        assert hub.stored("room") == []
        assert hub.stored("other") == ["fine"] * 3


async def test_a_message_above_the_limit_of_the_hub_closes_with_1009() -> None:
    async with MisbehavingHub(limits=Limits(max_message_bytes=1000)) as hub:
        connection = await opened(hub)
        assert (await receive(connection))["limits"]["max_message_bytes"] == 1000
        await connection.send("x" * 1_000_000)  # the close frame arrives though the client is still sending
        assert (await close_of(connection))[0] == 1009


@pytest.mark.parametrize(
    "fault",
    [
        NeverReply(of_type("publish"), carried_out=True),
        CloseOn(1012, of_type("publish"), times=1, carried_out=True),
        CloseOn(1006, of_type("publish"), times=1, carried_out=True),
    ],
    ids=["no answer", "closed", "reset"],
)
async def test_an_answer_is_lost_and_its_key_is_heard_again(fault: Fault) -> None:
    async with MisbehavingHub(always=[fault]) as hub:
        ann = await hub_client("ann", at(hub), "room")
        message = {"type": "publish", "channel": "room", "data": "once", "idempotency_key": "k"}
        await ann.send({**message, "id": 1})
        await eventually(lambda: hub.stored("room"))
        if isinstance(fault, CloseOn):
            await close_of(ann.connection)
            await ann.connect(at(hub))
            ann.since["room"]["offset"] = 0
        answer = await ann.ask(**message)
        assert (answer["type"], answer["offset"]) == ("ack", 1)
        assert hub.stored("room") == ["once"]
        assert hub.records.keys_heard_again == ["k"]


async def test_a_message_is_stored_later_than_it_is_heard() -> None:
    async with MisbehavingHub(always=[NotDurableYet(0.2, of_type("publish"), times=1)]) as hub:
        ann, bob = await hub_client("ann", at(hub), "room"), await hub_client("bob", at(hub))
        await bob.send({"type": "publish", "channel": "room", "data": 1, "id": 7, "idempotency_key": "k"})
        assert await bob.receive() == {"type": "ack", "id": 7, "durable": False}
        early = await ann.receive()
        assert (early["data"], "offset" in early) == (1, False)
        assert hub.stored("room") == []
        ack, position = await bob.receive(), await ann.receive()
        assert (ack["id"], ack["durable"], ack["offset"]) == (7, True, 1)
        assert position == {"type": "position", "channel": "room", "offset": 1, "epoch": ack["epoch"]}
        assert hub.stored("room") == [1]


async def test_an_answer_comes_behind_later_ones() -> None:
    async with MisbehavingHub(always=[ReplyLate(0.2, in_channel("slow"))]) as hub:
        connection = await opened(hub)
        await connection.send('{"type": "publish", "channel": "slow", "data": 1, "id": "slow"}')
        await connection.send('{"type": "publish", "channel": "quick", "data": 2, "id": "quick"}')
        await receive(connection)
        assert [(await receive(connection))["id"] for _ in range(2)] == ["quick", "slow"]


# What it records, and how it is run


async def test_it_records_who_came_with_which_token() -> None:
    async with MisbehavingHub() as hub:
        await connect(hub.url, subprotocols=[Subprotocol("wsd.bearer"), Subprotocol("a.b.c")])
        await connect(f"{hub.url}?token=d.e.f")
        await connect(hub.url, additional_headers={"Authorization": "Bearer g.h.i"})
        await connect(hub.url)
        assert [each.token for each in hub.records.handshakes] == ["a.b.c", "d.e.f", "g.h.i", ""]
        assert len(hub.records.pauses) == 3


def test_a_test_without_an_event_loop_commands_it_from_its_thread() -> None:
    with MisbehavingHub() as hub, connect_sync(hub.url) as connection:
        assert json.loads(connection.recv(10))["type"] == "welcome"
        connection.send('{"type": "subscribe", "channel": "room"}')
        connection.recv(10)
        hub.publish("room", "from another thread")
        assert json.loads(connection.recv(10))["data"] == "from another thread"
        hub.close_port()
        with pytest.raises(ConnectionRefusedError):
            connect_sync(hub.url)
        hub.open_port()
        hub.close(1012)
        with pytest.raises(ConnectionClosed):
            connection.recv(10)
        with connect_sync(hub.url) as again:
            assert json.loads(again.recv(10))["type"] == "welcome"


async def test_a_fault_of_the_stand_in_itself_fails_the_test() -> None:
    def fails(request: dict[str, Any]) -> bool:
        raise LookupError("in the test's own choice of requests")

    with pytest.raises(ExceptionGroup, match="MisbehavingHub has failed"):
        async with MisbehavingHub(always=[Refuse("forbidden", fails)]) as hub:
            with pytest.raises(ConnectionClosed):
                await ask(await opened(hub), type="ping")
