"""Tokens that clients replace while they are connected."""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.apps import copy_app
from tests.support.hub_client import ask, close_of, receive
from tests.support.worker import worker

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
PROTOCOLS = pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])


def token(seconds: float = 600, **changes: Any) -> str:
    return jwt.encode({"sub": "42", "name": "Ann", "exp": time.time() + seconds, **changes}, SECRET, "HS256")


@PROTOCOLS
async def test_a_connection_whose_token_is_refreshed_stays_when_the_first_one_expires(
    tmp_path: Path, protocol: str
) -> None:
    with worker(tmp_path, jwt_secret=SECRET, protocol=protocol) as serving:
        staying = await serving.open(subprotocols=["wsd.bearer", token(2)])
        assert 0 < (await receive(staying))["token_expires_in"] <= 2
        other = await serving.open(subprotocols=["wsd.bearer", token(4)])  # closed at least a second after the first
        assert (await receive(other))["type"] == "welcome"
        answer = await ask(staying, type="refresh", token=token(600))
        assert answer["type"] == "ack"
        assert 590 < answer["token_expires_in"] <= 600
        assert await close_of(other) == (4401, "the token has expired")
        assert (await ask(staying, type="ping"))["type"] == "pong"
        assert "eyJ" not in serving.log.read_text(), "tokens are not logged"
        await staying.close()


@PROTOCOLS
async def test_a_connection_ends_with_the_newest_token_also_if_that_is_shorter(tmp_path: Path, protocol: str) -> None:
    with worker(tmp_path, jwt_secret=SECRET, protocol=protocol) as serving:
        connection = await serving.open(subprotocols=["wsd.bearer", token(600)])
        await receive(connection)
        assert (await ask(connection, type="refresh", token=token(1)))["token_expires_in"] <= 1
        assert await close_of(connection) == (4401, "the token has expired")


async def test_a_wrong_token_is_an_error_and_the_connection_stays(tmp_path: Path) -> None:
    with worker(tmp_path, jwt_secret=SECRET) as serving:
        connection = await serving.open(subprotocols=["wsd.bearer", token()])
        await receive(connection)
        for wrong, code, text in (
            (token(sub="43"), "invalid_token", "the token is that of another user"),
            (token(-600), "invalid_token", "the token has expired"),
            (token()[:-4] + "AAAA", "invalid_token", "the token is not valid"),
            ("rubbish", "invalid_token", "the token is not valid"),
            ("two words", "invalid_request", "Expected `str` matching regex"),
            ("line\n", "invalid_request", "Expected `str` matching regex"),
            ("", "invalid_request", "Expected `str` matching regex"),
            (None, "invalid_request", "Expected `str`, got `null`"),
        ):
            answer = await ask(connection, type="refresh", token=wrong)
            assert (answer["type"], answer["code"]) == ("error", code)
            assert answer["message"].startswith(text)
        assert (await ask(connection, type="refresh", token=token()))["type"] == "ack"
        await connection.close()


async def test_where_nobody_is_authenticated_there_is_nothing_to_refresh(tmp_path: Path) -> None:
    with worker(tmp_path) as serving:
        connection = await serving.open("user_id=ann")
        assert "token_expires_in" not in await receive(connection)
        answer = await ask(connection, type="refresh", token=token())
        assert (answer["code"], answer["message"]) == (
            "invalid_request",
            "the server authenticates nobody, so there is no token to refresh",
        )
        await connection.close()


async def test_refreshes_count_as_other_requests_do(tmp_path: Path) -> None:
    with worker(tmp_path, jwt_secret=SECRET, messages_per_second=0.001, message_burst=2) as serving:
        connection = await serving.open(subprotocols=["wsd.bearer", token()])
        await receive(connection)
        answers = [await ask(connection, type="refresh", token="rubbish") for _ in range(3)]
        assert [each["code"] for each in answers] == ["invalid_token", "invalid_token", "rate_limited"]
        await connection.close()


@pytest.mark.parametrize(("place", "protocol"), [("query", "wsd"), ("header", "uvicorn")])
async def test_an_applications_own_function_checks_the_new_token(tmp_path: Path, place: str, protocol: str) -> None:
    copy_app("token_names", tmp_path)
    settings = {"authenticate": "token_names:authenticate", "handshake_timeout": 0.5, "protocol": protocol}
    with worker(tmp_path, **settings) as serving:

        async def opened(text: str) -> Any:
            if place == "query":
                return await serving.open(f"token={text}")
            return await serving.open(additional_headers={"Authorization": f"Bearer {text}"})

        connection = await opened("ann.reader")
        await receive(connection)
        answer = await ask(connection, type="refresh", token="ann.writer")
        assert answer == {"type": "ack", "id": answer["id"]}
        assert (await ask(connection, type="refresh", token="bob.writer"))["code"] == "invalid_token"
        assert (await ask(connection, type="refresh", token="ann.slow"))["code"] == "unavailable"
        assert (await ask(connection, type="refresh", token="ann.brief"))["token_expires_in"] <= 1
        assert (await ask(connection, type="refresh", token="ann.writer")).get("token_expires_in") is None
        other = await opened("ann.brief")
        assert await close_of(other) == (4401, "the token has expired")
        assert (await ask(connection, type="ping"))["type"] == "pong"
        await connection.close()


async def test_the_application_is_asked_about_the_claims_of_the_newest_token(tmp_path: Path) -> None:
    copy_app("token_names", tmp_path)
    hooks = {"authenticate": "token_names:authenticate", "authorize": "token_names:authorize"}
    with worker(tmp_path, **hooks) as serving:
        connection = await serving.open("token=ann.reader")
        await receive(connection)
        assert (await ask(connection, type="publish", channel="reader", data=1))["type"] == "ack"
        assert (await ask(connection, type="publish", channel="writer", data=1))["code"] == "forbidden"
        assert (await ask(connection, type="refresh", token="ann.writer"))["type"] == "ack"
        assert (await ask(connection, type="publish", channel="reader", data=1))["code"] == "forbidden"
        assert (await ask(connection, type="publish", channel="writer", data=1))["type"] == "ack"
        await connection.close()
