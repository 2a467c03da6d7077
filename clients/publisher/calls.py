"""The requests of a publisher, and the functions that read their answers."""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import quote, urlencode

from wsd.publisher.records import History, Member, OutgoingMessage, Presence, PublishResult, Session, Sessions

T = TypeVar("T")

MAX_MESSAGES: Final = 1000
"""Messages in one request to publish. A message to several channels counts once for each."""

MAX_BODY_BYTES: Final = 1_048_576
"""Bytes in the body of a request to publish."""

PUBLISH_PATH: Final = "/api/websocket/publish"
HISTORY_PATH: Final = "/api/websocket/history/"
PRESENCE_PATH: Final = "/api/websocket/presence/"
SESSIONS_PATH: Final = "/api/websocket/sessions"
DISCONNECT_PATH: Final = "/api/websocket/disconnect"
SUBSCRIBE_PATH: Final = "/api/websocket/subscribe"
UNSUBSCRIBE_PATH: Final = "/api/websocket/unsubscribe"


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and the function that reads its answer: a JSON object.

    The function raises KeyError, TypeError or ValueError for an object that is not the answer.
    """

    method: str
    target: str
    body: bytes | None
    read: Callable[[Any], T]


def message(data: object, idempotency_key: str, exclude: str, **target: object) -> OutgoingMessage:
    """Return a message, as `publish_many` takes it."""
    options = {"idempotency_key": idempotency_key, "exclude": exclude}
    given = {name: value for name, value in options.items() if value}
    return cast("OutgoingMessage", {"data": data, **target, **given})


def to_channels(names: Sequence[str], data: object, idempotency_key: str, exclude: str) -> list[OutgoingMessage]:
    """Return a message to several channels, as often as no request can hold all their names."""
    parts = [list(names[first : first + MAX_MESSAGES]) for first in range(0, len(names), MAX_MESSAGES)]
    return [message(data, idempotency_key, exclude, channels=part) for part in parts]


def publish(messages: Iterable[OutgoingMessage]) -> list[Call[list[PublishResult]]]:
    """Return the requests that publish these messages, in their order.

    Raises TypeError or ValueError for a message that JSON cannot hold, or that is larger than a request.
    """
    encoded = [(_encoded(each), len(each.get("channels") or [""])) for each in messages]
    return [Call("POST", PUBLISH_PATH, b"[" + b",".join(batch) + b"]", results) for batch in _batches(encoded)]


def _json(value: object) -> bytes:
    """Encode a value. Raises TypeError or ValueError for one that JSON cannot hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _encoded(outgoing: OutgoingMessage) -> bytes:
    """Encode a message. A random idempotency key makes it count once, however often it is sent."""
    body = _json({"idempotency_key": secrets.token_hex(16), **outgoing})
    if len(body) + 2 > MAX_BODY_BYTES:
        raise ValueError(f"a message may have {MAX_BODY_BYTES - 2} bytes, got {len(body)}")
    return body


def _batches(messages: Iterable[tuple[bytes, int]]) -> Iterator[list[bytes]]:
    """Divide messages into requests that the cluster takes. Each comes with the number of its channels."""
    batch: list[bytes] = []
    size, total = 2, 0  # the brackets
    for body, channels in messages:
        if batch and (total + channels > MAX_MESSAGES or size + len(body) > MAX_BODY_BYTES):
            yield batch
            batch, size, total = [], 2, 0
        batch.append(body)
        size += len(body) + 1  # the comma
        total += channels
    if batch:
        yield batch


def results(answer: Any) -> list[PublishResult]:
    """Return the results of what was published. Raises KeyError or TypeError for an answer without them."""
    return [
        PublishResult(each["channel"], each["everywhere"], each.get("offset"), each.get("epoch"), each.get("durable"))
        for each in answer["results"]
        if "error" not in each
    ]


def history(channel: str, since: int, limit: int, *, reverse: bool, epoch: str = "") -> Call[History]:
    of_epoch = {"epoch": epoch} if epoch else {}
    query = urlencode({"since": since, "limit": limit, "reverse": str(reverse).lower(), **of_epoch})

    def read(answer: Any) -> History:
        return History(
            channel,
            answer["offset"],
            answer["epoch"],
            tuple(answer["messages"]),
            answer.get("previous", ""),
            answer.get("incomplete", False),
        )

    return Call("GET", f"{HISTORY_PATH}{quote(channel, safe='')}?{query}", None, read)


def presence(channel: str, limit: int) -> Call[Presence]:
    def read(answer: Any) -> Presence:
        names = ("user_id", "username", "node_id", "worker_id")
        members = tuple(Member(*(one[name] for name in names)) for one in answer["members"])
        return Presence(channel, answer["count"], members)

    return Call("GET", f"{PRESENCE_PATH}{quote(channel, safe='')}?{urlencode({'limit': limit})}", None, read)


def delete_history(channel: str) -> Call[None]:
    return Call("DELETE", f"{HISTORY_PATH}{quote(channel, safe='')}", None, lambda answer: None)


def sessions(user_id: str, offset: int, limit: int) -> Call[Sessions]:
    query = urlencode({"user_id": user_id, "offset": offset, "limit": limit})

    def read(answer: Any) -> Sessions:
        return Sessions(answer["total"], _sessions(answer))

    return Call("GET", f"{SESSIONS_PATH}?{query}", None, read)


def disconnect(user_id: str, session_id: str, code: int | None, reason: str) -> Call[tuple[Session, ...]]:
    """Return the request that ends sessions. Raises ValueError unless one of the two ids is given."""
    if bool(user_id) == bool(session_id):
        raise ValueError("disconnect needs a user_id or a session_id, and not both")
    options = {"user_id": user_id, "session_id": session_id, "code": code, "reason": reason}
    return Call("POST", DISCONNECT_PATH, _json({name: value for name, value in options.items() if value}), _sessions)


def subscription(path: str, user_id: str, channel: str) -> Call[int]:
    """Return the request that lets all connections of a user join a channel, or leave it, as `path` says."""
    body = _json({"user_id": user_id, "channel": channel})
    return Call("POST", path, body, lambda answer: int(answer["connections"]))


def _sessions(answer: Any) -> tuple[Session, ...]:
    names = [each.name for each in fields(Session)]
    found = [{name: one[name] for name in names} for one in answer["sessions"]]
    return tuple(Session(**{**one, "channels": tuple(one["channels"])}) for one in found)
