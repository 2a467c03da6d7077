"""What an API key may do."""

import json
from typing import get_args

import pytest

from wsd.worker.contract.api_keys import OF_ALL_CHANNELS, Right
from wsd.worker.security.api_keys import ApiKeys, refusal

SECTIONS = json.dumps(
    {
        "orders": {"key": "o", "rights": ["publish", "sessions"], "channels": ["orders:*", "user:{user_id}:x"]},
        "reader": {"key": "r", "rights": ["history", "sessions"], "channels": ["*"]},
    }
)
KEYS = ApiKeys("master", SECTIONS)


@pytest.mark.parametrize(
    ("secret", "right", "channels", "problem"),
    [
        ("o", "publish", ["orders:1", "orders:2"], None),
        ("o", "publish", ["user:ann:x"], None),
        ("o", "publish", [], None),
        ("o", "publish", ["orders:1", "direct"], "the API key 'orders' has no right 'publish' in the channel 'direct'"),
        ("o", "history", ["orders:1"], "the API key 'orders' has no right 'history' in the channel 'orders:1'"),
        ("o", "history", [], "the API key 'orders' has no right 'history'"),
        ("o", "sessions", [], "the API key 'orders' has the right 'sessions' only with channels = ['*']"),
        ("r", "sessions", [], None),
        ("r", "history", ["broadcast"], None),
    ],
)
def test_a_key_allows_its_rights_in_its_channels(
    secret: str, right: Right, channels: list[str], problem: str | None
) -> None:
    key = KEYS.find(secret)
    assert key is not None
    assert refusal(key, right, channels) == problem


@pytest.mark.parametrize("right", get_args(Right))
def test_the_key_of_the_security_section_may_do_everything(right: Right) -> None:
    key = KEYS.find("master")
    assert key is not None
    assert refusal(key, right, [] if right in OF_ALL_CHANNELS else ["room", "direct"]) is None


@pytest.mark.parametrize("secret", ["", "O", "orders", "master ", "\xe9"])
def test_another_secret_is_no_key(secret: str) -> None:
    assert KEYS.find(secret) is None


def test_no_key_is_found_where_there_is_none() -> None:
    assert not ApiKeys("")
    assert ApiKeys("").find("") is None
    assert ApiKeys("", SECTIONS)
