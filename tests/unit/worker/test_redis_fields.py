"""Sessions as fields of Redis hashes."""

from typing import Any

import pytest

from wsd.worker.sessions.redis_fields import channel_fields, from_fields, metadata_fields, to_fields
from wsd.worker.sessions.session_store import SessionInfo, SessionState

SESSION = SessionInfo(
    session_id="s",
    user_id="ann",
    username="Änn",
    node_id="n",
    worker_id="worker-1-ab",
    connected_at=1.5,
    last_seen=2.5,
    state=SessionState.DETACHED,
    metadata={"role": ["a", 1], "c:x": None},
    channels=frozenset({"room", "m:x"}),
    token="t",
    last_token="l",
)


def as_redis_answers(fields: dict[Any, Any]) -> dict[bytes, bytes]:
    return {_bytes(name): _bytes(value) for name, value in fields.items()}


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_a_session_survives_the_way_through_a_hash() -> None:
    assert from_fields(as_redis_answers(to_fields(SESSION))) == SESSION


@pytest.mark.parametrize(
    "change",
    [{"session_id": None}, {"state": "dancing"}, {"connected_at": "soon"}, {"m:role": "{"}],
    ids=["no id", "unknown state", "no time", "no JSON"],
)
def test_a_hash_that_is_not_a_session_is_none(change: dict[str, str | None]) -> None:
    fields = {name: value for name, value in {**to_fields(SESSION), **change}.items() if value is not None}
    assert from_fields(as_redis_answers(fields)) is None
    assert from_fields({}) is None


def test_changes_are_fields_and_values_and_an_empty_value_removes_a_field() -> None:
    assert metadata_fields({"a": 1, "b": None}) == ["m:a", b"1", "m:b", b""]
    assert channel_fields({"room": True, "left": False}) == ["c:room", "1", "c:left", ""]
