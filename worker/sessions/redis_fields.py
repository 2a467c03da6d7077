"""A session as the fields of a Redis hash."""

from collections.abc import Mapping
from typing import Any

import msgspec

from wsd.worker.security.channel_access import Grant
from wsd.worker.sessions.session_store import Member, SessionInfo, SessionState

METADATA_PREFIX = "m:"
"""Each metadata key is a field of its own, so that two workers can change two keys at once."""

CHANNEL_PREFIX = "c:"
"""Each channel is a field of its own, for the same reason. Its value is MEMBER, or a grant as JSON."""

MEMBER = "1"

_grant = msgspec.json.Decoder(Grant)


def to_fields(session: SessionInfo) -> dict[Any, Any]:
    fields: dict[Any, Any] = {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "username": session.username,
        "node_id": session.node_id,
        "worker_id": session.worker_id,
        "connected_at": session.connected_at,
        "last_seen": session.last_seen,
        "state": session.state.value,
        "token": session.token,
        "last_token": session.last_token,
    }
    fields.update((CHANNEL_PREFIX + name, _member(session.grants.get(name, True))) for name in session.channels)
    for key, value in session.metadata.items():
        fields[METADATA_PREFIX + key] = msgspec.json.encode(value)
    return fields


def from_fields(fields: Mapping[Any, Any]) -> SessionInfo | None:
    """Return the session that a hash holds; None for an empty hash (no such key) and for one that is not a session."""
    named = {as_text(name): value for name, value in fields.items()}
    try:
        return SessionInfo(
            session_id=as_text(named["session_id"]),
            user_id=as_text(named["user_id"]),
            username=as_text(named["username"]),
            node_id=as_text(named["node_id"]),
            worker_id=as_text(named["worker_id"]),
            connected_at=float(named["connected_at"]),
            last_seen=float(named["last_seen"]),
            state=SessionState(as_text(named["state"])),
            metadata={
                name.removeprefix(METADATA_PREFIX): msgspec.json.decode(value)
                for name, value in named.items()
                if name.startswith(METADATA_PREFIX)
            },
            channels=frozenset(n.removeprefix(CHANNEL_PREFIX) for n in named if n.startswith(CHANNEL_PREFIX)),
            grants={
                name.removeprefix(CHANNEL_PREFIX): _grant.decode(value)
                for name, value in named.items()
                if name.startswith(CHANNEL_PREFIX) and as_text(value) != MEMBER
            },
            token=as_text(named.get("token")),
            last_token=as_text(named.get("last_token")),
        )
    except (KeyError, ValueError):
        return None


def metadata_fields(changes: Mapping[str, Any]) -> list[str | bytes]:
    """Return fields and values in turn for the scripts; an empty value removes a field."""
    fields: list[str | bytes] = []
    for key, value in changes.items():
        fields += [METADATA_PREFIX + key, b"" if value is None else msgspec.json.encode(value)]
    return fields


def channel_fields(changes: Mapping[str, Member]) -> list[str | bytes]:
    """Return fields and values in turn for the scripts; an empty value removes a field."""
    fields: list[str | bytes] = []
    for channel, member in changes.items():
        fields += [CHANNEL_PREFIX + channel, _member(member)]
    return fields


def _member(member: Member) -> str | bytes:
    if isinstance(member, Grant):
        return msgspec.json.encode(member)
    return MEMBER if member else ""


def as_text(value: Any) -> str:
    """Decode a value that came from Redis; None becomes ''."""
    return value.decode() if isinstance(value, bytes) else value or ""
