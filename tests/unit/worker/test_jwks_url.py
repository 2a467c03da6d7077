"""The keys of tokens from a URL whose server rotates its keys, fails and hangs."""

import asyncio
import math
import time
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.key_server import KeyServer, key_server
from tests.support.waiting import eventually
from wsd.worker.security import jwks_url
from wsd.worker.security.authentication import NewTokenNeededError, UndecidedError
from wsd.worker.security.json_web_tokens import JWTAuthenticator, JWTSettings
from wsd.worker.security.jwks_url import KEEP_SECONDS, PAUSE_SECONDS, Step, first_step

pytestmark = pytest.mark.anyio

FIRST, SECOND = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def token(key: rsa.RSAPrivateKey, kid: str) -> str:
    return jwt.encode({"sub": "42", "exp": time.time() + 3600}, key, "RS256", headers={"kid": kid})


OF_FIRST, OF_SECOND = token(FIRST, "first"), token(SECOND, "second")


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server(first=FIRST) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(server: KeyServer, clock: Clock) -> JWTAuthenticator:
    return JWTAuthenticator(JWTSettings(jwks_url=server.url, algorithms=("RS256",)), clock)


@pytest.mark.parametrize(
    ("known", "age", "rested", "answers", "step"),
    [
        (False, math.inf, math.inf, True, Step.FETCH_AND_WAIT),  # the first token
        (False, math.inf, PAUSE_SECONDS - 1, False, Step.NOTHING),
        (False, math.inf, PAUSE_SECONDS, False, Step.FETCH_AND_WAIT),
        (True, KEEP_SECONDS - 1, math.inf, True, Step.NOTHING),
        (True, KEEP_SECONDS, KEEP_SECONDS, True, Step.FETCH_AND_WAIT),  # the key may have been withdrawn
        (True, KEEP_SECONDS, KEEP_SECONDS, False, Step.FETCH),  # nobody waits for a URL that has failed
        (True, KEEP_SECONDS, PAUSE_SECONDS - 1, False, Step.NOTHING),
        (False, 1, PAUSE_SECONDS - 1, True, Step.NOTHING),
        (False, PAUSE_SECONDS, PAUSE_SECONDS, True, Step.FETCH_AND_WAIT),  # the key may be new
        (False, PAUSE_SECONDS, PAUSE_SECONDS, False, Step.FETCH_AND_WAIT),
    ],
)
def test_what_comes_before_a_key_is_looked_up(
    known: bool, age: float, rested: float, answers: bool, step: Step
) -> None:
    assert first_step(known=known, age=age, rested=rested, answers=answers) is step


async def test_the_set_is_fetched_once_for_many_tokens_that_come_together(
    server: KeyServer, tokens: JWTAuthenticator
) -> None:
    found = await asyncio.gather(*(tokens.claims(OF_FIRST) for _ in range(20)))
    assert [each["sub"] for each in found] == ["42"] * 20
    await tokens.claims(OF_FIRST)
    assert server.requests == 1


async def test_tokens_of_connections_and_of_channels_share_one_set(
    server: KeyServer, tokens: JWTAuthenticator, clock: Clock
) -> None:
    others = JWTAuthenticator(JWTSettings(jwks_url=server.url, algorithms=("RS256",)), clock)
    await tokens.claims(OF_FIRST)
    await others.claims(OF_FIRST)
    assert server.requests == 1


async def test_a_new_key_is_found_when_a_token_names_it_but_the_url_is_not_asked_for_every_token(
    server: KeyServer, tokens: JWTAuthenticator, clock: Clock
) -> None:
    await tokens.claims(OF_FIRST)
    server.keys = {"first": FIRST, "second": SECOND}
    with pytest.raises(UndecidedError):
        await tokens.claims(OF_SECOND)
    assert server.requests == 1
    clock.now += PAUSE_SECONDS
    assert (await tokens.claims(OF_SECOND))["sub"] == "42"
    assert server.requests == 2
    clock.now += PAUSE_SECONDS
    with pytest.raises(NewTokenNeededError):  # the URL has just said that there is no such key
        await tokens.claims(token(SECOND, "third"))


async def test_a_key_that_was_withdrawn_holds_no_longer_than_the_set_is_kept(
    server: KeyServer, tokens: JWTAuthenticator, clock: Clock
) -> None:
    await tokens.claims(OF_FIRST)
    server.keys = {"second": SECOND}
    clock.now += KEEP_SECONDS - 1
    await tokens.claims(OF_FIRST)
    clock.now += 1
    with pytest.raises(NewTokenNeededError):
        await tokens.claims(OF_FIRST)


async def test_while_the_url_fails_at_the_first_start_clients_are_told_to_come_back(
    server: KeyServer, tokens: JWTAuthenticator, clock: Clock
) -> None:
    server.status = 500
    for _ in range(3):
        with pytest.raises(UndecidedError, match="the keys of tokens cannot be read at this time"):
            await tokens.claims(OF_FIRST)
    assert server.requests == 1
    server.status = 200
    clock.now += PAUSE_SECONDS
    assert (await tokens.claims(OF_FIRST))["sub"] == "42"


@pytest.mark.parametrize("keys", [{}, {"first": FIRST}], ids=["no keys", "HTTP 500"])
async def test_the_last_keys_hold_while_the_url_gives_none(
    server: KeyServer, tokens: JWTAuthenticator, clock: Clock, keys: dict[str, rsa.RSAPrivateKey]
) -> None:
    await tokens.claims(OF_FIRST)
    server.keys, server.status = keys, 500 if keys else 200
    clock.now += KEEP_SECONDS
    assert (await tokens.claims(OF_FIRST))["sub"] == "42"
    assert server.requests == 2
    clock.now += KEEP_SECONDS
    with pytest.raises(UndecidedError):  # it may be the key that the URL would give
        await tokens.claims(OF_SECOND)


async def test_a_url_that_hangs_holds_up_nobody_whose_key_is_known(
    server: KeyServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_url, "FETCH_SECONDS", 0.3)
    tokens = JWTAuthenticator(JWTSettings(jwks_url=server.url, algorithms=("RS256",)), clock)
    await tokens.claims(OF_FIRST)
    server.hang()
    clock.now += KEEP_SECONDS
    ticks = 0
    waiting = asyncio.create_task(tokens.claims(OF_FIRST))
    while not waiting.done():  # the event loop goes on
        await asyncio.sleep(0)
        ticks += 1
    assert ticks > 10
    assert waiting.result()["sub"] == "42"
    clock.now += PAUSE_SECONDS
    checked = asyncio.create_task(tokens.claims(OF_FIRST))
    await eventually(checked.done)
    assert checked.result()["sub"] == "42"
    await eventually(lambda: server.requests == 3)
    server.go_on()


async def test_a_client_that_gives_up_takes_nothing_from_those_who_wait_for_the_same_answer(
    server: KeyServer, tokens: JWTAuthenticator
) -> None:
    server.hang()
    patient = asyncio.create_task(tokens.claims(OF_FIRST))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tokens.claims(OF_FIRST), 0.05)
    server.go_on()
    assert (await patient)["sub"] == "42"
    assert server.requests == 1
