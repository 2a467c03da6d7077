"""Every attempt of a message has the same name, and two messages never do, whatever their users, channels and keys."""

from itertools import product

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from wsd.worker.broker.history import IDEMPOTENCY_SECONDS
from wsd.worker.broker.idempotency import UID_SECONDS, RecentAttempts, attempt_of, stored_key, uid_of
from wsd.worker.contract.redis_keys import idempotency_key
from wsd.worker.wire import messages as wire

NASTY = [
    "",
    "a",
    "a:b",
    "b:1",
    "1",
    ":",
    "::",
    "0:",
    "1:a",
    "}",
    "a}",
    "}:a",
    "{",
    "server",
    "http:a",
    "a\0",
    "\0",
    "-",
    "é",
]

texts = st.text(st.sampled_from("ab:{}0123-\0\u202e\U0001f600\ud800"), max_size=6)
senders = st.none() | texts
channels = st.builds("".join, st.tuples(st.sampled_from(["", "!"]), texts))
triples = st.tuples(channels, senders, texts)


def key_of(triple: tuple[str, str | None, str]) -> str:
    channel, sender, key = triple
    return idempotency_key(channel, stored_key(sender, key))


def test_no_two_hostile_names_share_a_key() -> None:
    every = list(product(NASTY, [None, *NASTY], NASTY))
    assert len(set(map(key_of, every))) == len(every)
    assert len({uid_of(channel, stored_key(sender, key), 0) for channel, sender, key in every}) == len(every)


@settings(max_examples=2000, derandomize=True)
@given(triples, triples)
def test_keys_are_equal_only_where_channel_user_and_key_are(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    assert (key_of(one) == key_of(two)) is (one == two)


def test_the_redis_name_of_an_idempotency_key_does_not_reveal_it() -> None:
    key = stored_key("ann", "order-17")
    assert "ann" not in key
    assert "order" not in uid_of("room", key, 0) + key


@pytest.mark.parametrize("now", [0.0, 59.9, 1_790_000_000.0, 1_790_000_059.999])
def test_a_uid_is_new_whenever_the_message_counts_as_new(now: float) -> None:
    key = stored_key("ann", "k")
    assert uid_of("room", key, now) != uid_of("room", key, now + IDEMPOTENCY_SECONDS)
    assert uid_of("room", key, now) != uid_of("room", key, now + IDEMPOTENCY_SECONDS - UID_SECONDS + 0.01), (
        "other clocks"
    )
    assert uid_of("room", key, now) != uid_of("another", key, now)
    assert uid_of("room", key, now) == uid_of("room", key, now // UID_SECONDS * UID_SECONDS)


def encoded(uid: str, data: object = None) -> bytes:
    return wire.encode(wire.Message(channel="c", data=data, sender=wire.Sender("u", "u", "w"), uid=uid))


@pytest.mark.parametrize("data", [None, '"uid":"x"', {"uid": "0" * 32 + "-1"}, ["uid", "é"]])
def test_an_attempt_is_recognised_by_the_uid_in_its_message(data: object) -> None:
    uid = uid_of("c", stored_key("u", "k"), 17 * UID_SECONDS)
    assert attempt_of(encoded(uid, data)) == (uid[:32].encode(), 17)
    assert attempt_of(encoded("8cabc15713-1", data)) is None
    assert attempt_of(encoded("", data)) in (None, (b"0" * 32, 1)), "nobody publishes to a history without a uid"


@pytest.mark.parametrize("payload", [b"", b"{}", b'"uid":"', b'{"uid":"' + b"0" * 32 + b'-xyz"}', b"not json"])
def test_a_payload_that_is_not_a_message_has_no_attempt(payload: bytes) -> None:
    assert attempt_of(payload) is None


def test_tries_of_neighbouring_periods_are_of_one_message() -> None:
    known = RecentAttempts(2)
    known.add(b"a", 10)
    assert [(b"a", period) in known for period in range(8, 13)] == [False, True, True, True, False]
    known.add(b"b", 10)
    known.add(b"c", 10)
    assert (b"a", 10) not in known
    assert (b"c", 10) in known
