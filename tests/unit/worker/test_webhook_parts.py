"""Signatures, batches and pauses of webhooks, exactly."""

import json
import re

import pytest

from wsd.worker.contract.webhook_rules import signing_key, url_problem
from wsd.worker.hooks.backoff import Backoff
from wsd.worker.hooks.event_queue import Entry
from wsd.worker.hooks.records import SessionFacts, event_of
from wsd.worker.hooks.signing import MAX_BODY_BYTES, batch, headers, signature

FACTS = SessionFacts(session_id="s1", user_id="ann", username="Ann", connected_at=5.0)


def entry(number: int, kind: str = "subscribed", channel: str = "room") -> Entry:
    return Entry(f"{number}-0", event_of(kind, f"{number}-0", 10.0 + number, FACTS, (channel,)))


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's own libraries."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_same_events_make_the_same_request_and_other_events_another_one() -> None:
    one, again, other = batch([entry(1), entry(2)]), batch([entry(1), entry(2)]), batch([entry(1)])
    assert (one.id, one.body) == (again.id, again.body)
    assert one.id != other.id
    assert re.fullmatch(r"batch_[0-9a-f]{32}", one.id)
    assert json.loads(other.body) == {
        "events": [
            {
                "type": "subscribed",
                "id": "s1:1-0",
                "at": 11.0,
                "session_id": "s1",
                "user_id": "ann",
                "username": "Ann",
                "connected_at": 5.0,
                "channel": "room",
            }
        ]
    }


def test_the_headers_say_when_this_try_is_made() -> None:
    webhook = batch([entry(1)])
    first, second = headers(webhook, b"k" * 24, 100.9), headers(webhook, b"k" * 24, 160.0)
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("100", "160")
    assert first["webhook-id"] == second["webhook-id"] == webhook.id
    assert first["webhook-signature"] != second["webhook-signature"]


def test_a_request_has_a_limited_size_and_at_least_one_event() -> None:
    large = [entry(number, channel="x" * (MAX_BODY_BYTES // 3)) for number in range(4)]
    assert batch(large).entries == large[:2]
    huge = entry(1, channel="x" * MAX_BODY_BYTES)
    assert batch([huge, entry(2)]).entries == [huge]


def test_a_session_begins_and_ends_under_ids_of_its_own() -> None:
    assert entry(7, "connected").event.id == "s1:connected"
    assert entry(8, "disconnected").event.id == "s1:disconnected"
    with pytest.raises(ValueError, match="'moved' is no type of events"):
        entry(9, "moved")


def test_pauses_double_up_to_a_minute_and_begin_anew_after_a_success() -> None:
    longest = Backoff(lambda: 1.0)
    assert [longest.failed() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert longest.succeeded()
    assert not longest.succeeded()
    assert longest.failed() == 1
    shortest = Backoff(lambda: 0.0)
    assert [shortest.failed() for _ in range(3)] == [0.5, 1, 2]
    for _ in range(5000):
        assert longest.failed() <= 60


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_\u00e4"])
def test_a_secret_that_is_none_is_refused_with_the_way_to_make_one(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl rand"):
        signing_key(secret)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://example.com/hooks?a=1", None),
        ("http://api:8000", None),
        ("http://[::1]:80/", None),
        ("ftp://example.com", "must be a URL"),
        ("example.com/hooks", "must be a URL"),
        ("https://example.com:99999/", "is no URL"),
        ("https://me:secret@example.com/", "no user and no password"),
        ("https://example.com/a b", "without blanks"),
        ("https://example.com/\r\nx: y", "without blanks"),
        ("https://b\u00fccher.example/", "without blanks"),
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused(url: str, problem: str | None) -> None:
    found = url_problem(url)
    assert found is None if problem is None else found is not None and problem in found
