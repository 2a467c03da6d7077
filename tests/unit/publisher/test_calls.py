"""The requests of a publisher: how messages are divided, and what they contain."""

import json
from typing import Any

import pytest

from wsd.publisher import calls
from wsd.publisher.records import OutgoingMessage, PublishResult


def bodies(messages: list[OutgoingMessage]) -> list[bytes]:
    return [call.body or b"" for call in calls.publish(messages)]


def sized(size: int) -> OutgoingMessage:
    """Return a message that takes `size` bytes."""
    message: OutgoingMessage = {"channel": "a", "data": "", "idempotency_key": "k"}
    (body,) = bodies([message])
    return {**message, "data": "x" * (size - len(body) + 2)}


def test_each_message_has_a_key_of_its_own_unless_it_has_one() -> None:
    (body,) = bodies(
        [{"channel": "a", "data": 1}, {"channel": "a", "data": 1}, calls.message(1, "mine", "", user_id="u")]
    )
    first, second, third = json.loads(body)
    assert len(first["idempotency_key"]) == len(second["idempotency_key"]) == 32
    assert first["idempotency_key"] != second["idempotency_key"]
    assert third == {"data": 1, "user_id": "u", "idempotency_key": "mine"}


def test_a_request_that_is_sent_again_has_the_same_keys() -> None:
    (call,) = calls.publish([{"channel": "a", "data": 1}])
    assert call.body == call.body


def test_a_thousand_messages_are_one_request() -> None:
    divided = [json.loads(body) for body in bodies([{"channel": "a", "data": number} for number in range(2001)])]
    assert [len(each) for each in divided] == [1000, 1000, 1]
    assert [one["data"] for each in divided for one in each] == list(range(2001))


def test_a_message_counts_once_for_each_of_its_channels() -> None:
    several = calls.message(1, "", "", channels=[f"c{number}" for number in range(400)])
    divided = [json.loads(body) for body in bodies([several, several, several, {"channel": "a", "data": 2}])]
    assert [len(each) for each in divided] == [2, 2]


def test_a_message_to_thousands_of_channels_is_several() -> None:
    names = [f"c{number}" for number in range(2500)]
    messages = calls.to_channels(names, 1, "key", "")
    assert [len(each["channels"]) for each in messages] == [1000, 1000, 500]
    assert [name for each in messages for name in each["channels"]] == names
    assert calls.to_channels([], 1, "", "") == []


def test_results_are_of_what_was_published() -> None:
    failed = {"channel": "b", "error": "Redis is full"}
    assert calls.results({"results": [{"channel": "a", "everywhere": False, "durable": False}, failed]}) == [
        PublishResult("a", everywhere=False, durable=False)
    ]


def test_a_request_has_at_most_a_mebibyte() -> None:
    half = calls.MAX_BODY_BYTES // 2
    assert [len(body) for body in bodies([sized(half - 2), sized(half - 1)])] == [calls.MAX_BODY_BYTES]
    assert len(bodies([sized(half - 1), sized(half - 1)])) == 2
    assert len(bodies([sized(calls.MAX_BODY_BYTES - 2)])[0]) == calls.MAX_BODY_BYTES


def test_a_message_that_no_request_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="a message may have 1048574 bytes, got 1048575"):
        calls.publish([sized(calls.MAX_BODY_BYTES - 1)])


def test_no_messages_are_no_request() -> None:
    assert calls.publish([]) == []


@pytest.mark.parametrize("data", [float("nan"), float("inf"), "\ud800", {1, 2}, object()])
def test_data_that_is_no_json_is_refused(data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        calls.publish([{"channel": "a", "data": data}])


def test_names_of_channels_are_quoted() -> None:
    assert calls.history("a/b#c:d", 5, 10, reverse=True).target == (
        "/api/websocket/history/a%2Fb%23c%3Ad?since=5&limit=10&reverse=true"
    )


def test_a_session_or_a_user_is_disconnected() -> None:
    call = calls.disconnect("ann", "", 4000, "bye")
    assert json.loads(call.body or b"") == {"user_id": "ann", "code": 4000, "reason": "bye"}
    for user_id, session_id in (("", ""), ("ann", "5f0c")):
        with pytest.raises(ValueError, match="needs a user_id or a session_id, and not both"):
            calls.disconnect(user_id, session_id, None, "")
