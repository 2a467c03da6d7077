"""Our protocol as ASGI, row by row, compared with uvicorn's own protocol for the same applications and clients.

Application and client see the same, except in the rows that say what differs, and why. Of
uvicorn's own suite (tests/protocols/test_websocket.py of 0.54), with our classes: 55 of 71 tests pass. The others:

- `test_duplicate_handshake`, `test_asgi_return_value` and `test_close_transport_on_asgi_return` expect that the
  connection is cut, as in the rows with ENDS_WITH_A_CLOSE_FRAME;
- 11 of one fake transport, from `test_send_respects_write_backpressure` to `test_connection_lost_unblocks_paused_send`,
  `test_server_keepalive_ping_pong` and `test_server_keepalive_disabled` look at attributes of uvicorn's classes.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.waiting import eventually
from wsd.worker.server.http_protocol import HttpProtocol

pytestmark = pytest.mark.anyio


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # they are the tests'


@dataclass
class Seen:
    """The events of one row, in words that can be compared."""

    application: list[object] = field(default_factory=list)
    client: list[object] = field(default_factory=list)


class Application:
    """The application's side of a row. It records what it receives, and the errors of its `send`."""

    def __init__(self, receive: Receive, send: Send, seen: Seen) -> None:
        self._receive, self._send, self._seen = receive, send, seen

    async def one_more(self) -> Message:
        """Receive one more message, which is not recorded."""
        return await self._receive()

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen.application.append({k: v for k, v in message.items() if v is not None})
        return message

    async def send(self, kind: str, **fields: object) -> None:
        try:
            await self._send({"type": f"websocket.{kind}", **fields})
        except OSError:
            self._seen.application.append(f"{kind}: OSError")
        except Exception as exc:  # noqa: BLE001 - of which kind is not promised by ASGI
            self._seen.application.append(f"{kind}: refused")
            assert str(exc)

    async def accept(self, **fields: object) -> None:
        await self.receive()
        await self.send("accept", **fields)


class Client:
    """The client's side of a row."""

    def __init__(self, connection: ClientConnection, seen: Seen) -> None:
        self.connection, self._seen = connection, seen

    async def receive_next(self) -> None:
        self._seen.client.append(await self.connection.recv())

    async def say(self, *messages: str | bytes) -> None:
        for message in messages:
            await self.connection.send(message)


Act = Callable[[Application], Awaitable[object]]
Play = Callable[[Client], Awaitable[object]]


async def nothing(_: object) -> None: ...


@dataclass(frozen=True)
class Row:
    act: Act
    play: Play = nothing
    differs: tuple[object, object] | None = None  # how the client's side ends: uvicorn's, ours
    reason: str = ""


ROWS: dict[str, Row] = {}


def row(
    play: Play = nothing, *, differs: tuple[object, object] | None = None, reason: str = ""
) -> Callable[[Act], Act]:
    def add(act: Act) -> Act:
        ROWS[act.__name__] = Row(act, play, differs, reason)
        return act

    return add


ENDS_WITH_A_CLOSE_FRAME = "a client is told that the application has ended, and how: uvicorn cuts the connection"
SAYS_WHAT_IT_HAS = "a client gets what the application has said of its answer: uvicorn sends nothing"
CUT = ("closed", 1006, "")


async def says_two(client: Client) -> None:
    await client.receive_next()
    await client.say("1", b"2")
    await client.receive_next()
    await client.receive_next()


async def waits(app: Application, calls: int) -> list["asyncio.Task[Message]"]:
    """Start several calls of `receive` at the same time. Each has begun to wait when this returns."""
    tasks: list[asyncio.Task[Message]] = []
    for _ in range(calls):
        tasks.append(asyncio.create_task(app.one_more()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return tasks


def content(message: Message) -> object:
    return message.get("text") or message.get("bytes")


@row(says_two)
async def two_calls_of_receive_are_served_in_order(app: Application) -> None:
    await app.accept()
    tasks = await waits(app, 2)
    await app.send("send", text="ready")
    for number, task in enumerate(tasks):
        await app.send("send", text=f"{number}: {content(await task)!r}")
    await app.send("close")


@row(says_two)
async def a_cancelled_receive_takes_nothing(app: Application) -> None:
    await app.accept()
    first, second, third = await waits(app, 3)
    first.cancel()
    await asyncio.wait([first])
    await app.send("send", text="ready")
    for task in (second, third):
        await app.send("send", text=repr(content(await task)))
    await app.send("close")


@row(says_two)
async def a_receive_that_is_cancelled_when_its_message_is_there_takes_nothing(app: Application) -> None:
    await app.accept()
    first, second = await waits(app, 2)
    await app.send("send", text="ready")
    await asyncio.wait([first, second], timeout=0.5)
    got = [content(task.result()) for task in (first, second)]
    await app.send("send", text=repr(got[0]))
    (late,) = await waits(app, 1)
    late.cancel()
    await asyncio.wait([late])
    await app.send("send", text=repr(got[1]))
    await app.send("close")


@row(says_two)
async def a_receive_with_a_timeout_loses_nothing(app: Application) -> None:
    await app.accept()
    for _ in range(3):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.one_more(), 0.01)
    await app.send("send", text="ready")
    for _ in range(2):
        await app.send("send", text=repr(content(await app.one_more())))
    await app.send("close")


async def hears_one(client: Client) -> None:
    await client.receive_next()


@row(hears_one)
async def text_and_bytes_at_once_are_bytes(app: Application) -> None:
    await app.accept()
    await app.send("send", text="text", bytes=b"bytes")
    await app.send("close")


@row(hears_one)
async def none_is_as_if_it_were_not_there(app: Application) -> None:
    await app.accept()
    await app.send("send", text="text", bytes=None)
    await app.send("close", code=1001, reason=None)


@row(hears_one)
async def an_empty_text_is_a_message(app: Application) -> None:
    await app.accept()
    await app.send("send", text="")
    await app.send("close", code=3000, reason="a reason")


@row()
async def an_unknown_type_is_refused(app: Application) -> None:
    await app.receive()
    await app.send("nonsense")
    await app.send("accept")
    await app.send("nonsense")
    await app.send("close")


@row()
async def accept_is_first(app: Application) -> None:
    await app.receive()
    await app.send("send", text="too early")
    await app.send("accept")
    await app.send("accept")
    await app.send("close")


@row()
async def accept_before_the_connect_is_received(app: Application) -> None:
    await app.send("accept")
    await app.receive()
    await app.send("close")


@row()
async def nothing_after_close(app: Application) -> None:
    await app.accept()
    await app.send("close")
    await app.send("send", text="too late")
    await app.send("close")


async def closes(client: Client) -> None:
    await client.connection.close(3001, "bye")


@row(
    closes,
    differs=(("closed", 3001, "bye"), ("closed", 3001, "")),
    reason="the answer repeats the code, as RFC 6455 (5.5.1) has it; uvicorn's repeats the client's own text, too",
)
async def a_close_of_the_client_has_code_and_reason(app: Application) -> None:
    await app.accept()
    await app.receive()
    await app.send("send", text="too late")
    await app.send("close")


async def closes_without_code(client: Client) -> None:
    await client.connection.close()


@row(closes_without_code)
async def a_close_of_the_client_without_a_reason(app: Application) -> None:
    await app.accept()
    await app.receive()


@row()
async def a_refusal_is_403(app: Application) -> None:
    await app.receive()
    await app.send("close", code=3000, reason="not here")
    await app.receive()


@row()
async def an_answer_in_parts(app: Application) -> None:
    await app.receive()
    await app.send("http.response.start", status=404, headers=[(b"x-own", b"value")])
    await app.send("http.response.body", body=b"not ", more_body=True)
    await app.send("http.response.body", body=b"here")


@row()
async def an_answer_without_a_body(app: Application) -> None:
    await app.receive()
    await app.send("http.response.start", status=401, headers=[(b"content-length", b"0")])
    await app.send("http.response.body", body=b"")


@row()
async def a_body_without_a_start(app: Application) -> None:
    await app.receive()
    await app.send("http.response.body", body=b"")
    await app.send("accept")
    await app.send("http.response.start", status=404, headers=[])
    await app.send("close")


@row(differs=(("lost",), ("status", 404, b"")), reason=SAYS_WHAT_IT_HAS)
async def an_answer_that_is_not_ended(app: Application) -> None:
    await app.receive()
    await app.send("http.response.start", status=404, headers=[])


@row(
    differs=(("lost",), ("status", 404, b"part")), reason="what the application has said is sent; uvicorn sends nothing"
)
async def an_answer_that_fails(app: Application) -> None:
    await app.receive()
    await app.send("http.response.start", status=404, headers=[])
    await app.send("http.response.body", body=b"part", more_body=True)
    raise ArithmeticError("as it should")


@row()
async def returning_without_an_answer_is_500(app: Application) -> None:
    await app.receive()


@row()
async def raising_without_an_answer_is_500(app: Application) -> None:
    raise ArithmeticError("as it should")


@row(differs=(CUT, ("closed", 1000, "")), reason=ENDS_WITH_A_CLOSE_FRAME)
async def returning_closes(app: Application) -> None:
    await app.accept()


@row(differs=(CUT, ("closed", 1000, "")), reason=ENDS_WITH_A_CLOSE_FRAME)
async def a_value_that_is_returned_is_nothing(app: Application) -> object:
    await app.accept()
    return 123


@row(differs=(CUT, ("closed", 1011, "")), reason=ENDS_WITH_A_CLOSE_FRAME)
async def raising_closes(app: Application) -> None:
    await app.accept()
    raise ArithmeticError("as it should")


@row(differs=(CUT, ("closed", 1011, "")), reason=ENDS_WITH_A_CLOSE_FRAME)
async def cancelling_itself_closes(app: Application) -> None:
    await app.accept()
    raise asyncio.CancelledError


@row()
async def a_subprotocol_and_headers(app: Application) -> None:
    await app.accept(subprotocol="chat", headers=[(b"x-own", b"value")])
    await app.send("close")


class Servers:
    """uvicorn with its own WebSocket protocol, and with ours; both call the application of the row that is played."""

    def __init__(self) -> None:
        self.seen = Seen()
        self._running: dict[str, tuple[Server, asyncio.Task[None], int]] = {}
        self._done = asyncio.Event()

    async def start(self, ws: str, http: Any) -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(self._app, ws=ws, http=http, interface="asgi3", lifespan="off", log_config=None)
        server = Server(config)
        task = asyncio.create_task(server.serve([listener]))
        self._running[ws] = (server, task, listener.getsockname()[1])
        await eventually(lambda: server.started)

    async def stop(self) -> None:
        for server, task, _ in self._running.values():
            server.should_exit = True
            await task

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> Any:
        assert scope["type"] == "websocket"
        try:
            async with asyncio.timeout(5):
                return await ROWS[scope["path"][1:]].act(Application(receive, send, self.seen))
        finally:
            self._done.set()

    async def play(self, name: str, ws: str) -> Seen:
        self.seen, self._done = Seen(), asyncio.Event()
        url = f"ws://127.0.0.1:{self._running[ws][2]}/{name}"
        client = self.seen.client
        try:
            async with asyncio.timeout(10), connect(url, subprotocols=["chat"], compression=None) as connection:  # type: ignore[list-item]
                assert connection.response is not None
                client.append((connection.subprotocol, connection.response.headers.get("x-own")))
                with contextlib.suppress(ConnectionClosed):
                    await ROWS[name].play(Client(connection, self.seen))
                await connection.wait_closed()
                client.append(("closed", connection.close_code, connection.close_reason))
        except InvalidStatus as exc:
            client.append(exc.response.headers.get("x-own"))
            client.append(("status", exc.response.status_code, exc.response.body or b""))
        except (EOFError, OSError, ConnectionClosed):
            client.append(("lost",))
        except Exception as exc:  # noqa: BLE001 - InvalidMessage of whatever release
            assert type(exc).__name__ == "InvalidMessage", exc
            client.append(("lost",))
        async with asyncio.timeout(10):
            await self._done.wait()
        return self.seen


@pytest.fixture(scope="module")
async def servers() -> AsyncIterator[Servers]:
    running = Servers()
    await running.start(UVICORN, "httptools")
    await running.start(OURS, HttpProtocol)
    yield running
    await running.stop()


UVICORN, OURS = "websockets-sansio", "wsd.worker.server.websocket_protocol:FanoutProtocol"


@pytest.mark.parametrize("name", ROWS)
async def test_application_and_client_see_the_same_as_under_uvicorn(servers: Servers, name: str) -> None:
    expected, seen = await servers.play(name, UVICORN), await servers.play(name, OURS)
    differs = ROWS[name].differs
    assert seen.application == expected.application
    if differs is None:
        assert seen.client == expected.client
    else:
        assert (expected.client[-1], seen.client[-1]) == differs
        assert ROWS[name].reason
