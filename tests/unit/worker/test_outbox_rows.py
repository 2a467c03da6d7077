"""Rows of an outbox become messages: which ones can, by which options, and under which keys."""

import json

import pytest

from wsd.worker.channels.options import ChannelRules
from wsd.worker.contract.relay_environment import RelayEnv
from wsd.worker.contract.relay_status import RelayStatus
from wsd.worker.postgres import lock_number, quoted
from wsd.worker.relay.outbox_table import batch_rows
from wsd.worker.relay.rows import Publication, Row, RowError, RowReader

RULES = ChannelRules(
    json.dumps({"*": {"history_size": 7, "history_ttl_seconds": 60}, "passing:*": {"history_size": 0}})
)
READER = RowReader("wsd_outbox", RULES, 1000)


def row(
    channel: str = "room:1", data: str | None = "1", *, row_id: int = 1, at: int = 5, key: str | None = None
) -> Row:
    return Row(row_id, at, channel, len(data or "x" * 2000), data, key)


def publication(**changes: object) -> Publication:
    return READER.publication(row(**changes), 1000.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("channel", "label", "size"),
    [("room:1", "room:1", 7), ("passing:1", "passing:1", 0), ("broadcast", "broadcast", 7), ("!ann", "direct", 7)],
)
def test_a_row_becomes_a_message_by_the_options_of_its_channel(channel: str, label: str, size: int) -> None:
    found = publication(channel=channel, data='{"a": [1, 2]}')
    message = json.loads(found.payload)
    assert (message["type"], message["channel"], message["data"]) == ("message", label, {"a": [1, 2]})
    assert (found.row_id, found.channel, found.retention.size) == (1, channel, size)
    assert found.retention.idempotency_seconds == 86_400


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (row(""), "a channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : @ / # -"),
        (row("c" * 256), "a channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : @ / # -"),
        (row("a b"), "a channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : @ / # -"),
        (row("~a"), "a channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : @ / # -"),
        (row("direct"), "the channel direct is each client's own, send a direct message to it"),
        (row("!"), "user_id must have 1 to 128 characters, got 0"),
        (row("!a\u202e"), "user_id must not contain U+202E"),
        (row(data=None), "data may have 1000 bytes (websocket.max_message_bytes), has 2000"),
        (row(data="[" * 33 + "]" * 33), "data may have 32 levels"),
        (row(key=""), "idempotency_key must have 1 to 128 characters"),
        (row(key="k" * 129), "idempotency_key must have 1 to 128 characters"),
    ],
)
def test_a_row_that_is_no_message_is_refused_with_the_reason(bad: Row, problem: str) -> None:
    with pytest.raises(RowError) as raised:
        READER.publication(bad, 0.0)
    assert str(raised.value) == problem


def test_a_row_has_the_same_key_whenever_it_is_read_and_no_other_row_has_it() -> None:
    same = [READER.publication(row(), now).retention.idempotency_key for now in (0.0, 1e9)]
    others = [
        publication(row_id=2),
        publication(at=6),
        publication(channel="room:2"),
        publication(data="2"),
        publication(key="1"),
        RowReader("other_outbox", RULES, 1000).publication(row(), 0.0),
    ]
    keys = {same[0], *(each.retention.idempotency_key for each in others)}
    assert (same[0], len(keys)) == (same[1], 7)


def test_a_key_of_the_application_is_its_own_for_all_rows() -> None:
    found = {
        publication(row_id=number, data=str(number), key="order-17").retention.idempotency_key for number in (1, 2)
    }
    assert len(found) == 1


@pytest.mark.parametrize(("max_bytes", "found"), [(65_536, 500), (1_048_576, 32), (10**9, 1), (1, 500)])
def test_few_large_rows_are_read_at_once(max_bytes: int, found: int) -> None:
    assert batch_rows(max_bytes) == found


def test_the_lock_and_the_name_of_a_table() -> None:
    assert quoted("wsd_outbox") == '"wsd_outbox"'
    assert quoted("a.b") == '"a"."b"'
    assert lock_number("wsd outbox a") != lock_number("wsd outbox b")
    assert -(2**63) <= lock_number("wsd outbox a") < 2**63


def test_a_relay_reads_the_settings_and_its_status_as_they_were_written() -> None:
    env = RelayEnv(postgres_url="postgresql://a/b", redis_timeout=1.5, max_message_bytes=7)
    assert RelayEnv.from_env(env.to_env()) == env
    assert env.session_url == "postgresql://a/b"
    assert RelayEnv(postgres_url="a", listen_url="b").session_url == "b"
    status = RelayStatus(active=True, waiting=3, oldest_seconds=1.5)
    assert RelayStatus.from_json(status.to_json().encode()) == status
    for text in (b"[]", b"", b'{"waiting": "3"}'):
        with pytest.raises(ValueError, match=r"."):
            RelayStatus.from_json(text)
