"""Admission of clients: identities, origins, limits of connections and rates, and silence."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.apps import copy_app
from tests.support.hub_client import ask, close_of, hub_client, receive
from tests.support.key_server import key_server
from tests.support.ports import unused_port
from tests.support.server import uvicorn
from tests.support.valkey import server, valkey
from tests.support.waiting import eventually
from tests.support.worker import Worker, worker, workers

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"


def token(**changes: Any) -> str:
    return jwt.encode({"sub": "42", "name": "Ann", "exp": time.time() + 3600, **changes}, SECRET, "HS256")


def refusals(serving: Worker) -> dict[str, int]:
    found: dict[str, int] = serving.request("GET", "/api/websocket/stats?scope=worker")[1]["refusals"]
    return found


async def refused(serving: Worker, query: str = "", **options: Any) -> tuple[int, str, Any]:
    """Make a handshake that fails, and return its status, body and headers."""
    with pytest.raises(InvalidStatus) as failure:
        await serving.open(query, **options)
    response = failure.value.response
    return response.status_code, bytes(response.body or b"").decode(), response.headers


# Origins


async def test_pages_of_other_origins_are_refused(tmp_path: Path) -> None:
    with worker(tmp_path) as serving:
        for origin in ("http://evil.example", "null", "http://localhost.evil.example"):
            status, body, _ = await refused(serving, origin=origin)
            assert (status, body) == (403, f"origin {origin} is not allowed")
        same = await serving.open(origin="http://localhost")
        assert (await receive(same))["type"] == "welcome"
        await same.close()
        assert refusals(serving) == {"origin": 3}


async def test_origins_that_are_allowed(tmp_path: Path) -> None:
    with worker(tmp_path, allowed_origins="https://*.friends.example,https://one.example") as serving:
        for origin in ("https://a.friends.example", "https://one.example"):
            connection = await serving.open(origin=origin)
            assert (await receive(connection))["type"] == "welcome"
            await connection.close()
        assert (await refused(serving, origin="http://localhost"))[0] == 403


async def test_a_page_that_came_in_the_clear_may_not_use_tls(tmp_path: Path) -> None:
    with worker(tmp_path) as serving:
        by_tls = {"X-Forwarded-Proto": "https"}  # as nginx says it
        assert (await refused(serving, origin="http://localhost", additional_headers=by_tls))[0] == 403
        connection = await serving.open(origin="https://localhost", additional_headers=by_tls)
        assert (await receive(connection))["type"] == "welcome"
        await connection.close()


# Authentication


async def test_a_token_is_accepted_in_any_of_three_places(tmp_path: Path) -> None:
    with worker(tmp_path, jwt_secret=SECRET) as serving:
        for connection in (
            await serving.open(f"user_id=forged&token={token()}"),
            await serving.open("user_id=forged", additional_headers={"Authorization": f"Bearer {token()}"}),
            await serving.open("user_id=forged", subprotocols=["wsd.bearer", token()]),
        ):
            welcome = await receive(connection)
            assert (welcome["user_id"], welcome["username"]) == ("42", "Ann")
            await connection.close()
        assert "eyJ" not in serving.log.read_text(), "tokens are not logged"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("user_id=42", "a token is missing"),
        ("token=rubbish", "the token is not valid"),
        (f"token={token(exp=None)}", "the token has no exp"),
        (f"token={token(sub='')}", "the token has no sub"),
    ],
)
async def test_a_client_without_a_valid_token_is_closed_with_1008_and_the_reason(
    tmp_path: Path, query: str, reason: str
) -> None:
    with worker(tmp_path, jwt_secret=SECRET) as serving:
        connection = await serving.open(query)
        assert await close_of(connection) == (1008, reason)
        assert refusals(serving) == {"unauthenticated": 1}
        assert serving.health()[1]["websocket"]["local_connections"] == 0


@pytest.mark.parametrize("wrong", [token()[:-4] + "AAAA", token(nbf=time.time() + 3600)], ids=["key", "early"])
async def test_a_token_that_another_may_replace_is_refused_with_the_code_for_a_new_one(
    tmp_path: Path, wrong: str
) -> None:
    with worker(tmp_path, jwt_secret=SECRET) as serving:
        connection = await serving.open(f"token={wrong}")
        assert await close_of(connection) == (4401, "the token is not valid")
        assert refusals(serving) == {"unauthenticated": 1}


@pytest.mark.parametrize(
    ("user", "reason"), [("broken", "authentication failed"), ("slow", "authentication took too long")]
)
async def test_a_client_whose_identity_cannot_be_found_out_may_come_back(
    tmp_path: Path, user: str, reason: str
) -> None:
    copy_app("hooks", tmp_path)
    with worker(tmp_path, authenticate="hooks:authenticate", handshake_timeout=0.5) as serving:
        connection = await serving.open(additional_headers={"X-User": user})
        assert await close_of(connection) == (1011, reason)
        assert refusals(serving) == {"unauthenticated": 1}


async def test_keys_of_tokens_come_from_a_url(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = jwt.encode({"sub": "42", "exp": time.time() + 3600}, key, "RS256", headers={"kid": "first"})
    with key_server(first=key) as keys:
        with worker(tmp_path, jwt_jwks_url=keys.url, jwt_algorithms="RS256") as serving:
            for _ in range(2):
                assert (await receive(await serving.open(f"token={text}")))["user_id"] == "42"
        keys.status = 500
        with worker(tmp_path, jwt_jwks_url=keys.url, jwt_algorithms="RS256") as serving:
            connection = await serving.open(f"token={text}")
            assert await close_of(connection) == (1011, "the keys of tokens cannot be read at this time")
    assert keys.requests == 2


async def test_a_connection_ends_with_its_token_and_comes_back_with_a_new_one(tmp_path: Path) -> None:
    with worker(tmp_path, jwt_secret=SECRET) as serving:
        staying = await serving.open(subprotocols=["wsd.bearer", token(sub="bob")])
        for far in (1e300, 10**400, 2**53):
            connection = await serving.open(subprotocols=["wsd.bearer", token(exp=far)])
            assert (await receive(connection))["type"] == "welcome"
            await connection.close()
        connection = await serving.open(subprotocols=["wsd.bearer", token(exp=time.time() + 2)])
        welcome = await receive(connection)
        assert (await ask(connection, type="ping"))["type"] == "pong"
        assert await close_of(connection) == (4401, "the token has expired")
        again = await serving.open("resume=1", subprotocols=["wsd.bearer", token(name="Anna")])
        await again.send(json.dumps({"type": "resume", "token": welcome["resume_token"]}))
        resumed = await receive(again)
        assert resumed["resumed"]
        assert resumed["username"] == "Anna"
        stranger = await serving.open("resume=1", subprotocols=["wsd.bearer", token(sub="43")])
        await stranger.send(json.dumps({"type": "resume", "token": resumed["resume_token"]}))
        assert (await receive(stranger))["resumed"] is False
        assert (await receive(staying))["type"] == "welcome"
        assert (await ask(staying, type="ping"))["type"] == "pong"
        stats = serving.request("GET", "/api/websocket/stats?scope=worker")[1]
        assert stats["closes"]["token_expired"] == 1
        log = serving.log.read_text()
        assert not any(secret in log for secret in ("Traceback", "eyJ", resumed["resume_token"].partition(".")[2]))
        for left in (again, stranger, staying):
            await left.close()


async def test_a_token_that_is_over_is_refused_with_the_code_for_a_new_one(tmp_path: Path) -> None:
    with worker(tmp_path, jwt_secret=SECRET) as serving:
        over: tuple[object, ...] = (time.time() - 600, 0, -1, -1e300, True)
        for exp in over:
            connection = await serving.open(subprotocols=["wsd.bearer", token(exp=exp)])
            assert await close_of(connection) == (4401, "the token has expired")
        assert refusals(serving) == {"expired": len(over)}


@pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])
async def test_a_token_that_expires_ends_the_connections_of_any_application(tmp_path: Path, protocol: str) -> None:
    app = copy_app("echoing", tmp_path)
    with worker(tmp_path, app=app, jwt_secret=SECRET, protocol=protocol) as serving:
        connection = await serving.open(subprotocols=["wsd.bearer", token(exp=time.time() + 2)])
        await connection.send("hello")
        assert await connection.recv() == "hello"
        assert await close_of(connection) == (4401, "the token has expired")
        await eventually(lambda: "ended with 4401" in serving.log.read_text())
        assert serving.log.read_text().count("Traceback") == 0


async def test_no_token_is_in_the_log_of_uvicorn(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text("from wsd.worker.app import app\n")
    with uvicorn(tmp_path, "served:app", "--log-level", "info", WSD_WORKER_JWT_SECRET=SECRET) as port:
        for query in (f"token={token()}", f"a=1&%74oken={token()}&session=ab.secret&b=2"):
            connection = await connect(f"ws://127.0.0.1:{port}/ws?{query}")
            if "session" in query:
                await connection.send('{"type": "resume"}')
            assert (await receive(connection))["user_id"] == "42", "the application sees what is not logged"
            await connection.close()
        log = (tmp_path / "server.log").read_text()
        assert "/ws?token=***" in log
        assert "/ws?a=1&%74oken=***&session=***&b=2" in log
        assert not any(secret in log for secret in ("eyJ", "ab.secret"))


async def test_an_applications_own_hook(tmp_path: Path) -> None:
    copy_app("hooks", tmp_path)
    with worker(tmp_path, authenticate="hooks:authenticate") as serving:
        connection = await serving.open("user_id=forged", additional_headers={"X-User": "ann"})
        assert (await receive(connection))["user_id"] == "ann"
        assert await close_of(await serving.open("user_id=forged")) == (1008, "not authenticated")
        await connection.close()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"jwt_secret": "short"}, "security.jwt_secret must have 32 bytes at least for HS256, got 5"),
        ({"authenticate": "no.such:hook"}, 'security.authenticate "no.such:hook" cannot be imported'),
        ({"authenticate": "os:getcwd", "jwt_secret": SECRET}, "exclude each other"),
    ],
)
def test_settings_that_make_no_sense_stop_the_start(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    failing = Worker(tmp_path, **settings)
    assert failing.process.wait(20) == 3
    lines = failing.log.read_text().splitlines()
    assert problem in lines[-1]
    assert not any("Traceback" in line for line in lines)


# How many, how often


async def test_a_users_connections_are_limited_across_workers(tmp_path: Path) -> None:
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        workers(tmp_path, 2, redis_url=url, max_connections_per_user=10) as serving,
    ):

        async def attempt(number: int) -> Any:
            connection = await serving[number % 2].open("user_id=ann")
            message = await asyncio.wait_for(_first(connection), 10)
            return connection, message

        tried = [await attempt(0), await attempt(1)]  # each worker has one of them
        tried += await asyncio.gather(*(attempt(number) for number in range(28)))
        welcomed = [connection for connection, message in tried if message]
        assert len(welcomed) == 10, "exactly, whoever comes first"
        for connection, message in tried:
            if not message:
                assert await close_of(connection) == (4429, "a user may have 10 connections")
        assert sum(refusals(w).get("too_many_connections", 0) for w in serving) == 20
        other = await serving[0].connect("bob")
        await welcomed[0].close()

        async def one_more() -> bool:
            connection, message = await attempt(0)
            if message:
                welcomed.append(connection)
            return bool(message)

        async with asyncio.timeout(10):
            while not await one_more():
                pass
        assert not await one_more()
        # A worker that died does not lock its users out.
        serving[1].process.kill()
        async with asyncio.timeout(30):
            while not await one_more():  # noqa: ASYNC110 - it is another process that changes
                await asyncio.sleep(0.1)
        for connection in [other, *welcomed]:
            await connection.close()


async def _first(connection: Any) -> str | None:
    """Return the welcome, or None if the connection was closed instead."""
    try:
        return str(await connection.recv())
    except ConnectionClosed:
        return None


async def test_the_limit_holds_for_each_worker_while_redis_is_away(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        worker(tmp_path, redis_url=redis.url, max_connections_per_user=2) as serving,
    ):
        redis.freeze()
        started = time.monotonic()
        first = await serving.connect("ann")
        assert time.monotonic() - started < 4
        second = await serving.connect("ann")
        assert (await close_of(await serving.open("user_id=ann")))[0] == 4429
        redis.thaw()
        await first.close()
        await second.close()


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        (
            {"messages_per_second": 7.0, "message_burst": 30.0, "bytes_per_second": 5000.0, "byte_burst": 9000.5},
            (7, 30, 5000, 9000.5, 65_536),
        ),
        ({"messages_per_second": 0.0, "bytes_per_second": 5000.0, "byte_burst": 0.0}, (0, 0, 5000, 1, 65_536)),
        ({"message_burst": 0.5, "bytes_per_second": 0.0, "max_message_bytes": 900}, (200, 1, 0, 0, 900)),
    ],
)
@pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])
async def test_the_welcome_names_the_limits(
    tmp_path: Path, settings: dict[str, Any], limits: tuple[float, ...], protocol: str
) -> None:
    names = ("messages_per_second", "message_burst", "bytes_per_second", "byte_burst", "max_message_bytes")
    with worker(tmp_path, protocol=protocol, **settings) as serving:
        client = await hub_client("ann", serving)
        assert client.welcome["limits"] == dict(zip(names, limits, strict=True))
        await client.drop()
        again = await client.connect(serving)
        assert (again["resumed"], again["limits"]) == (True, client.welcome["limits"])
        await client.close()


async def test_a_client_that_stays_below_the_limits_of_its_welcome_is_not_refused(tmp_path: Path) -> None:
    settings = {"messages_per_second": 20.0, "message_burst": 20.0, "max_message_bytes": 2000}
    with worker(tmp_path, bytes_per_second=0.0, **settings) as serving:
        client = await hub_client("ann", serving)
        limits = client.welcome["limits"]
        longest = json.dumps({"type": "ping", "id": 1})
        longest += " " * (limits["max_message_bytes"] - len(longest))
        for sent in range(40):
            if sent >= limits["message_burst"] / 2:
                await asyncio.sleep(1 / (0.9 * limits["messages_per_second"]))
            await client.send(longest)
        for _ in range(40):
            assert (await client.receive())["type"] == "pong"
        await client.send(longest + " ")
        assert (await close_of(client.connection))[0] == 1009


async def test_messages_above_the_rate_are_refused_and_a_client_that_continues_is_closed(tmp_path: Path) -> None:
    with worker(tmp_path, messages_per_second=1.0, message_burst=5.0) as serving:
        connection = await serving.connect()
        for _ in range(5):
            assert (await ask(connection, type="ping"))["type"] == "pong"
        await connection.send('{"type": "ping"}')
        answer = await receive(connection)
        assert (answer["type"], answer["code"]) == ("error", "rate_limited")
        assert answer["message"] == "not more than 1 messages a second"
        await connection.send('{"type": "ping", "id": {"a": [1]}}')
        assert (await receive(connection))["id"] == {"a": [1]}, "a refused request is told from the others"
        await asyncio.sleep(1.1)  # a second's message is there again
        assert (await ask(connection, type="ping"))["type"] == "pong"
        for _ in range(10):
            await connection.send('{"type": "ping"}')
        assert await close_of(connection) == (4429, "too many messages")
        stats = serving.request("GET", "/api/websocket/stats?scope=worker")[1]
        assert stats["refusals"]["rate_limited"] >= 6
        assert stats["closes"] == {"policy": 1}


@pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])
async def test_bytes_above_the_rate_are_refused_and_a_client_that_continues_is_closed(
    tmp_path: Path, protocol: str
) -> None:
    limits = {"bytes_per_second": 10_000.0, "byte_burst": 34_500.0, "message_burst": 5.0, "messages_per_second": 0.0}
    with worker(tmp_path, protocol=protocol, **limits) as serving:
        connection = await serving.connect()
        data = "é" * 7_000  # two bytes each
        request = json.dumps({"type": "publish", "channel": "room", "data": data, "id": 1}, ensure_ascii=False)
        for _ in range(2):
            await connection.send(request)
            assert (await receive(connection))["type"] == "ack"
        await connection.send(request)
        answer = await receive(connection)
        assert (answer["code"], answer["message"]) == ("byte_rate_limited", "not more than 10000 bytes a second")
        assert answer["id"] == 1
        assert (await ask(connection, type="ping"))["type"] == "pong", "there is room for a small one"
        for _ in range(6):
            await connection.send(request)
        assert await close_of(connection) == (4429, "too many messages")
        history = await ask(await serving.connect(), type="history", channel="room")
        assert history["offset"] == 2, "what is refused is not stored"
        stats = serving.request("GET", "/api/websocket/stats?scope=worker")[1]
        assert stats["refusals"]["byte_rate_limited"] >= 6


@pytest.mark.parametrize(
    ("request_of", "accepted"),
    [
        (lambda number: {"type": "publish", "channel": f"room:{number}", "data": 1}, 5),
        (lambda number: {"type": "direct", "user_id": f"user {number}", "data": 1}, 5),
        (lambda number: {"type": "publish", "channel": f"room:{number % 3}", "data": 1}, 60),
        (lambda number: {"type": "publish", "channel": f"none:{number}", "data": 1}, 60),
        (lambda number: {"type": "broadcast", "data": 1}, 60),
    ],
)
async def test_the_room_that_a_new_history_takes_is_counted(
    tmp_path: Path, request_of: Callable[[int], dict[str, Any]], accepted: int
) -> None:
    limits = {"bytes_per_second": 10.0, "byte_burst": 20_000.0, "messages_per_second": 0.0}
    with worker(tmp_path, channels='{"none:*": {"history_size": 0}}', **limits) as serving:
        connection = await serving.connect()
        answers = [await ask(connection, **request_of(number)) for number in range(60)]
        assert [answer["type"] for answer in answers].count("ack") == accepted
        assert {answer["code"] for answer in answers if answer["type"] == "error"} <= {"byte_rate_limited"}
        await connection.close()


async def test_a_message_above_the_burst_waits_for_all_of_it(tmp_path: Path) -> None:
    with worker(tmp_path, bytes_per_second=5_000.0, byte_burst=1_000.0) as serving:
        connection = await serving.connect()
        large = {"type": "publish", "channel": "room", "data": "x" * 1_500}
        assert (await ask(connection, **large))["type"] == "ack"
        await connection.send(json.dumps(large))
        assert (await receive(connection))["code"] == "byte_rate_limited"


async def test_handshakes_above_the_rate_get_503_and_when_to_come_back(tmp_path: Path) -> None:
    with worker(tmp_path, handshakes_per_second=0.5, handshake_burst=3.0) as serving:
        connections = [await serving.connect() for _ in range(3)]
        status, body, headers = await refused(serving)
        assert (status, body) == (503, "too many handshakes")
        assert int(headers["Retry-After"]) in (1, 2)
        assert refusals(serving) == {"busy": 1}
        for connection in connections:
            await connection.close()


# Silence


SILENCE: list[dict[str, object]] = [
    {},
    {"type": "ping"},
    {"type": "ping", "id": 1},
    {"type": "ping", "positions": {"room": {"offset": 1, "epoch": "x"}}},
]
"""What a client may send all the time and is idle nevertheless. The first sends nothing."""


@pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])
async def test_a_silent_client_is_closed_and_may_come_back(tmp_path: Path, protocol: str) -> None:
    with worker(tmp_path, idle_timeout=1.0, protocol=protocol) as serving:
        silent = [await serving.connect(f"silent-{number}") for number in range(len(SILENCE))]
        talker = await serving.connect()
        closed = asyncio.gather(*(_close_after(connection) for connection in silent))
        while not closed.done():
            await ask(talker, type="unsubscribe", channel="room")
            for connection, request in zip(silent, SILENCE, strict=True):
                if request:
                    with contextlib.suppress(ConnectionClosed):
                        await connection.send(json.dumps(request))
            await asyncio.sleep(0.1)
        assert await closed == [(4000, "nothing received for 1 s")] * len(SILENCE)
        assert (await ask(talker, type="ping"))["type"] == "pong"
        await eventually(
            lambda: serving.request("GET", "/api/websocket/stats?scope=worker")[1]["closes"] == {"idle": len(SILENCE)}
        )
        await talker.close()


async def _close_after(connection: Any) -> tuple[int | None, str | None]:
    """Read everything until the server closes the connection, and return the code and the reason."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(10):
            async for _ in connection:
                pass
    return connection.close_code, connection.close_reason


@pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])
async def test_pings_take_nothing_from_a_client_that_is_active(tmp_path: Path, protocol: str) -> None:
    with worker(tmp_path, idle_timeout=1.2, protocol=protocol) as serving:
        connection = await serving.connect()
        for _ in range(4):
            assert (await ask(connection, type="unsubscribe", channel="room"))["type"] == "ack"
            for _ in range(8):
                await asyncio.sleep(0.1)
                assert (await ask(connection, type="ping"))["type"] == "pong"


@pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])
async def test_a_client_whose_application_receives_by_itself_is_not_silent(tmp_path: Path, protocol: str) -> None:
    with worker(tmp_path, app=copy_app("receiving", tmp_path), idle_timeout=0.6, protocol=protocol) as serving:

        async def talks(path: str) -> None:
            async with unix_connect(str(serving.path), f"ws://localhost/{path}", ping_interval=0.1) as client:
                while not silence.done():
                    await client.send("hi")
                    assert await client.recv() == "hi"
                    await asyncio.sleep(0.1)

        async def waits_to_be_heard() -> None:
            async with unix_connect(str(serving.path), "ws://localhost/busy", ping_interval=None) as client:
                for _ in range(30):  # more than is read from it before its application receives
                    await client.send("x" * 10_000)
                assert await client.recv() == "x" * 10_000

        async def silent() -> None:
            async with unix_connect(str(serving.path), "ws://localhost/chat", ping_interval=0.1) as client:
                assert await close_of(client) == (4000, "nothing received for 0.6 s")

        silence = asyncio.create_task(silent())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talks("chat"))
            tasks.create_task(talks("self"))
            if protocol == "wsd":
                tasks.create_task(waits_to_be_heard())
        await silence


@pytest.mark.parametrize("sent", [b"", b"GET /ws HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_that_never_finishes_its_request_is_cut_off(tmp_path: Path, sent: bytes) -> None:
    with worker(tmp_path, handshake_timeout=0.5) as serving:
        connection = await serving.connect()
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(serving.path))
            slow.sendall(sent)
            slow.settimeout(10)
            assert await asyncio.to_thread(slow.recv, 100) == b""
        await asyncio.sleep(0.6)
        assert (await ask(connection, type="ping"))["type"] == "pong", "one that was welcomed stays"
        await connection.close()


async def test_session_ids_are_long_and_not_logged(tmp_path: Path) -> None:
    with worker(tmp_path, log_level="debug") as serving:
        ids = set()
        for _ in range(5):
            connection, session_id = await serving.join()
            assert len(bytes.fromhex(session_id)) == 16
            ids.add(session_id)
            await connection.send(json.dumps({"type": "presence", "channel": "x"}))
            await connection.close()
        assert len(ids) == 5
        log = serving.log.read_text()
        assert not any(session_id in log for session_id in ids)
