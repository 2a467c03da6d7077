"""What the claims of a subscription token allow, and that no token passes for one of the other kind."""

import time
from typing import Any

import jwt
import pytest

from wsd.worker.security.authentication import AuthenticationError, NewTokenNeededError, TokenExpiredError
from wsd.worker.security.authorization import Action
from wsd.worker.security.channel_access import Grant
from wsd.worker.security.json_web_tokens import JWTAuthenticator, JWTSettings
from wsd.worker.security.subscription_tokens import SubscriptionTokens, actions_of

SECRET = "0123456789abcdef0123456789abcdef"
SETTINGS = JWTSettings(secret=SECRET)
TO_READ = {"subscribe", "history", "presence"}


def signed(secret: str = SECRET, **claims: Any) -> str:
    return jwt.encode({"exp": time.time() + 600, **claims}, secret, "HS256")


def allowed(user_id: str = "ann", /, **claims: Any) -> set[Action]:
    return set(actions_of({"channel": "room:1", **claims}, "room:1", user_id, "sub"))


@pytest.mark.parametrize(
    ("claims", "actions"),
    [
        ({}, TO_READ),
        ({"sub": "ann"}, TO_READ),
        ({"channel": "room:*"}, TO_READ),
        ({"channel": "*"}, TO_READ),
        ({"channel": "room:1*"}, TO_READ),
        ({"allow": ["subscribe"]}, TO_READ),
        ({"allow": ["history", "subscribe"]}, TO_READ),
        ({"allow": ["subscribe", "publish"]}, TO_READ | {"publish"}),
    ],
)
def test_a_token_allows_what_it_says(claims: dict[str, Any], actions: set[str]) -> None:
    assert allowed(**claims) == actions


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"channel": "room:2"}, "for another channel"),
        ({"channel": "room:"}, "for another channel"),
        ({"channel": "room:11"}, "for another channel"),
        ({"channel": "*:1"}, "for another channel"),
        ({"channel": "room:2*"}, "for another channel"),
        ({"channel": ""}, "names no channel"),
        ({"channel": ["room:1"]}, "names no channel"),
        ({"channel": None}, "names no channel"),
        ({"sub": "bob"}, "for another user"),
        ({"sub": ""}, "for another user"),
        ({"sub": None}, "for another user"),
        ({"sub": ["ann"]}, "for another user"),
        ({"sub": "*"}, "for another user"),
        ({"allow": []}, "does not allow it"),
        ({"allow": ["publish"]}, "does not allow it"),
        ({"allow": "subscribe"}, "must be a list of subscribe, publish, presence, history"),
        ({"allow": ["subscribe", "write"]}, "must be a list of"),
        ({"allow": [["subscribe"]]}, "must be a list of"),
        ({"allow": None}, "must be a list of"),
    ],
)
def test_a_token_for_something_else_is_refused(claims: dict[str, Any], problem: str) -> None:
    with pytest.raises(AuthenticationError, match=problem):
        allowed(**claims)


def test_a_number_is_the_id_of_a_user_whose_id_is_its_digits() -> None:
    assert allowed("42", sub=42) == TO_READ
    with pytest.raises(AuthenticationError):
        allowed("True", sub=True)


def test_the_user_is_in_the_claim_that_the_settings_name() -> None:
    claims = {"channel": "room", "sub": "internal", "email": "ann@example.com"}
    assert set(actions_of(claims, "room", "ann@example.com", "email")) == TO_READ
    with pytest.raises(AuthenticationError, match="another user"):
        actions_of(claims, "room", "internal", "email")


@pytest.mark.anyio
async def test_a_grant_ends_when_the_token_ends() -> None:
    end = int(time.time()) + 600
    grant = await SubscriptionTokens(SETTINGS).grant(signed(channel="room", exp=end), "room", "ann")
    assert grant == Grant(actions=grant.actions, expires_at=end)
    far = await SubscriptionTokens(SETTINGS).grant(signed(channel="room", exp=10**15), "room", "ann")
    assert far.expires_at == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("token", "error"),
    [
        (signed(channel="room", exp=time.time() - 60), TokenExpiredError),
        (signed("another secret of 32 bytes length", channel="room"), NewTokenNeededError),
        (signed(channel="room", nbf=time.time() + 600), NewTokenNeededError),
        (jwt.encode({"channel": "room"}, SECRET, "HS256"), AuthenticationError),
        (jwt.encode({"channel": "room", "exp": time.time() + 600}, "", "none"), AuthenticationError),
        ("rubbish", AuthenticationError),
    ],
    ids=["expired", "other key", "early", "without end", "unsigned", "rubbish"],
)
async def test_a_token_that_is_not_valid_is_refused(token: str, error: type[AuthenticationError]) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await SubscriptionTokens(SETTINGS).grant(token, "room", "ann")
    assert type(caught.value) is error


@pytest.mark.anyio
async def test_a_token_for_a_connection_is_none_for_a_channel_and_the_other_way_round() -> None:
    with pytest.raises(AuthenticationError, match="names no channel"):
        await SubscriptionTokens(SETTINGS).grant(signed(sub="ann"), "room", "ann")
    for channel in ("room", "", None, 1):
        query = f"token={signed(sub='ann', channel=channel)}".encode()
        with pytest.raises(AuthenticationError, match="one for a channel"):
            await JWTAuthenticator(SETTINGS).authenticate({"type": "websocket", "headers": [], "query_string": query})
