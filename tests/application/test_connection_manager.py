"""What chats do with a connection manager of their own, done with the one of wsd on two workers."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support.cluster import ROOT
from tests.support.server import uvicorn
from wsd import ConnectionManager, Gap, Message, Record
from wsd.testing import TestCluster

app = FastAPI()
rooms = ConnectionManager()
pictures = ConnectionManager()
private = ConnectionManager()
numbers = ConnectionManager()


def with_position(record: Record) -> str | None:
    """Return what clients of `kept` are sent: the text, and the position with which they come back."""
    match record:
        case Message(data=data, position=position):
            return json.dumps([data, str(position)])
        case Gap(reason=reason, position=position):
            return json.dumps([{"missed": reason}, str(position)])
    return None


kept = ConnectionManager(history=True, encode=with_position)
plain = ConnectionManager("plain", history=True)


@app.websocket("/rooms/{room}")
async def talk(websocket: WebSocket, room: str) -> None:
    await rooms.connect(websocket, room)
    try:
        while True:
            match (await websocket.receive_text()).split(" ", 1):
                case ["/join", other]:
                    await rooms.join(websocket, other)
                case ["/leave", other]:
                    await rooms.leave(websocket, other)
                case ["/all", text]:
                    await rooms.broadcast(text)
                case ["/others", text]:
                    await rooms.broadcast(text, room, exclude=websocket)
                case ["/json", text]:
                    await rooms.broadcast({"room": room, "text": text}, room)
                case words:
                    await rooms.broadcast(" ".join(words), room)
            await rooms.send_personal_message("done", websocket)
    except WebSocketDisconnect:
        rooms.disconnect(websocket, room)
        await rooms.broadcast(f"somebody left {room}", room)


@app.websocket("/pictures")
async def draw(websocket: WebSocket) -> None:
    await pictures.connect(websocket, subprotocol="drawing")
    async for picture in websocket.iter_bytes():
        await pictures.broadcast(picture)
        await pictures.send_personal_message(picture[::-1], websocket)


@app.websocket("/private")
async def whisper(websocket: WebSocket) -> None:
    await websocket.accept()
    if await websocket.receive_text() != "password":
        await websocket.close(1008, "wrong password")
        return
    client = await private.connect(websocket, user_id="ann", accept=False)
    await websocket.send_text(f"welcome {client.user_id}")
    async for text in websocket.iter_text():
        await private.broadcast(text)


@app.websocket("/kept/{room}")
async def keep(websocket: WebSocket, room: str, at: str = "") -> None:
    place: dict[str, Any] = {"since": at} if at else {"last": 2}
    await kept.connect(websocket, room, **place)
    async for text in websocket.iter_text():
        await kept.broadcast(text, room, exclude=websocket if text.startswith("others:") else None)


@app.websocket("/plain")
async def keep_plainly(websocket: WebSocket) -> None:
    await plain.connect(websocket, last=10)
    async for text in websocket.iter_text():
        await plain.broadcast({"text": text})
        await plain.send_personal_message('{"type": "message", "data": "mine"}', websocket)


@app.websocket("/numbers/{room}")
async def count(websocket: WebSocket, room: int) -> None:
    await numbers.connect(websocket, room)
    await numbers.broadcast("somebody came", room, exclude=websocket)
    async for text in websocket.iter_text():
        await numbers.broadcast(text, room)


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with TestCluster(app) as serving:
        yield serving


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def client(cluster: TestCluster, opened: ExitStack, path: str, **options: Any) -> ClientConnection:
    """Connect a client. Each call takes the next worker."""
    connection: ClientConnection = connect(cluster.url(path).replace("http", "ws"), **options)
    return opened.enter_context(connection)


def say(connection: ClientConnection, text: str) -> None:
    connection.send(text)
    assert hear(connection) == "done"


def hear(connection: ClientConnection) -> str | bytes:
    return connection.recv(timeout=10)


def test_a_message_to_a_room_reaches_the_clients_in_it_on_all_workers(cluster: TestCluster, opened: ExitStack) -> None:
    ann, bob, cas = [client(cluster, opened, f"/rooms/{room}") for room in ("a", "a", "b")]
    ann.send("hello")
    assert {hear(ann), hear(ann)} == {"hello", "done"}
    assert hear(bob) == "hello"
    ann.send("/json hi")
    assert {hear(ann), hear(ann)} == {'{"room": "a", "text": "hi"}', "done"}
    assert hear(bob) == '{"room": "a", "text": "hi"}'
    say(cas, "/join a")
    ann.send("/all everybody")
    assert [hear(one) for one in (bob, cas)] == ["everybody"] * 2
    assert {hear(ann), hear(ann)} == {"everybody", "done"}
    say(cas, "/leave a")
    bob.close()
    assert hear(ann) == "somebody left a"
    say(cas, "/leave b")
    ann.send("/all still here")
    assert hear(cas) == "still here", "the rooms that cas has left sent it nothing"


def test_everyone_but_one_gets_a_message(cluster: TestCluster, opened: ExitStack) -> None:
    ann, bob, cas = [client(cluster, opened, "/rooms/but") for _ in range(3)]
    for text in ("one", "two"):
        say(ann, f"/others {text}")
        assert hear(bob) == hear(cas) == text
    kept_by = [client(cluster, opened, "/kept/but") for _ in range(3)]
    for text in ("others: one", "two"):
        kept_by[0].send(text)
    assert json.loads(hear(kept_by[0]))[0] == "two"
    for other in kept_by[1:]:
        assert [json.loads(hear(other))[0] for _ in range(2)] == ["others: one", "two"]


def test_everyone_but_one_gets_a_message_under_uvicorn(tmp_path: Path, opened: ExitStack) -> None:
    (tmp_path / "served.py").write_text(f"from {__name__} import app\napp.get('/health')(lambda: 'ok')\n")
    port = opened.enter_context(uvicorn(tmp_path, "served:app", PYTHONPATH=str(ROOT)))
    ann, bob = [opened.enter_context(connect(f"ws://127.0.0.1:{port}/rooms/but")) for _ in range(2)]
    say(ann, "/others one")
    ann.send("two")
    assert {hear(ann), hear(ann)} == {"two", "done"}
    assert [hear(bob), hear(bob)] == ["one", "two"]
    ann, bob = [opened.enter_context(connect(f"ws://127.0.0.1:{port}/kept/but")) for _ in range(2)]
    ann.send("others: one")
    ann.send("two")
    assert json.loads(hear(ann))[0] == "two"
    assert [json.loads(hear(bob))[0] for _ in range(2)] == ["others: one", "two"]


def test_a_room_may_be_a_number(cluster: TestCluster, opened: ExitStack) -> None:
    ann = client(cluster, opened, "/numbers/0")
    client(cluster, opened, "/numbers/1").send("nobody in room 0 hears it")
    bob = client(cluster, opened, "/numbers/0")
    assert hear(ann) == "somebody came"
    bob.send("hello")
    assert hear(ann) == hear(bob) == "hello"


def test_a_room_in_the_place_of_the_message_is_an_error() -> None:
    async def ask() -> None:
        wrong: Any = {"text": "hello"}
        with pytest.raises(TypeError, match=r"not dict: .* as in manager.broadcast\(message, room\)"):
            await rooms.broadcast("lobby", wrong)
        with pytest.raises(TypeError, match="a room is a str or an int, not NoneType"):
            await rooms.connect(WebSocket({"type": "websocket"}, receive=None, send=None), room=None)  # type: ignore[arg-type]

    asyncio.run(ask())


def test_bytes_are_binary_messages_and_a_subprotocol_is_accepted(cluster: TestCluster, opened: ExitStack) -> None:
    one, two = [client(cluster, opened, "/pictures", subprotocols=[Subprotocol("drawing")]) for _ in range(2)]
    assert one.subprotocol == "drawing"
    for picture in (b"\xff\x00\xfe", b"text", b""):
        one.send(picture)
        assert hear(two) == picture
        assert sorted([hear(one), hear(one)], key=str) == sorted([picture, picture[::-1]], key=str)


def test_a_client_may_be_authenticated_by_its_first_message(cluster: TestCluster, opened: ExitStack) -> None:
    ann, bob, eve = [client(cluster, opened, "/private") for _ in range(3)]
    eve.send("guess")
    with pytest.raises(ConnectionClosedError, match="wrong password"):
        hear(eve)
    for one in (ann, bob):
        one.send("password")
        assert hear(one) == "welcome ann"
    bob.send("secret")
    assert hear(ann) == hear(bob) == "secret"


def test_a_manager_with_a_history_sends_what_a_client_missed(cluster: TestCluster, opened: ExitStack) -> None:
    ann = client(cluster, opened, "/kept/a")
    for text in ("one", "two", "three"):
        ann.send(text)
    heard = [json.loads(hear(ann)) for _ in range(3)]
    assert [text for text, _ in heard] == ["one", "two", "three"]
    bob = client(cluster, opened, "/kept/a")
    assert [json.loads(hear(bob))[0] for _ in range(2)] == ["two", "three"]
    back = client(cluster, opened, f"/kept/a?at={heard[0][1]}")
    assert [json.loads(hear(back)) for _ in range(2)] == heard[1:]
    ann.send("four")
    assert [json.loads(hear(one))[0] for one in (ann, bob, back)] == ["four"] * 3


def test_a_client_that_missed_what_is_not_kept_is_told(cluster: TestCluster, opened: ExitStack) -> None:
    back = client(cluster, opened, "/kept/gone?at=7:anotherepoch")
    missed, at = json.loads(hear(back))
    assert missed == {"missed": "epoch_changed"}
    back.send("hello")
    assert json.loads(hear(client(cluster, opened, f"/kept/gone?at={at}")))[0] == "hello"


@pytest.mark.parametrize("at", ["somewhere", "-1:x", "1:%20", "99999999999999999999:x", "%00"])
def test_a_client_with_a_position_that_is_none_is_refused(cluster: TestCluster, opened: ExitStack, at: str) -> None:
    with pytest.raises(ConnectionClosedError, match=r"1008.* is no position"):
        hear(client(cluster, opened, f"/kept/a?at={at}"))


def test_without_a_format_clients_get_the_message_alone(cluster: TestCluster, opened: ExitStack) -> None:
    ann = client(cluster, opened, "/plain")
    ann.send("hi")
    assert {hear(ann), hear(ann)} == {'{"text":"hi"}', '{"type": "message", "data": "mine"}'}
    assert hear(client(cluster, opened, "/plain")) == '{"text":"hi"}'


def test_a_manager_without_a_history_has_no_earlier_messages_and_one_with_it_no_bytes() -> None:
    async def ask() -> None:
        with pytest.raises(TypeError, match="with a history sends text and JSON"):
            await plain.broadcast(b"bytes")
        with pytest.raises(ValueError, match=r"since and last need a history: ConnectionManager\(history=True\)"):
            await rooms.connect(WebSocket({"type": "websocket"}, receive=None, send=None), last=1)  # type: ignore[arg-type]

    asyncio.run(ask())


def test_the_same_works_with_the_test_client_of_starlette() -> None:
    for _ in range(2):
        with TestClient(app) as web, web.websocket_connect("/kept/b") as ann, web.websocket_connect("/kept/b") as bob:
            ann.send_text("hello")
            assert ann.receive_json()[0] == bob.receive_json()[0] == "hello"
    with TestClient(app) as web, web.websocket_connect("/pictures") as ann, web.websocket_connect("/pictures") as bob:
        ann.send_bytes(b"\xff\x00")
        assert bob.receive_bytes() == b"\xff\x00"
