"""The headers and the body of a webhook, as Standard Webhooks says (https://www.standardwebhooks.com). Pure."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

import msgspec

from wsd.worker.hooks.event_queue import Entry

MAX_BODY_BYTES = 262_144
"""The largest body of a webhook with several events."""


class Webhook(msgspec.Struct, frozen=True):
    """A request that carries events. It is posted again with the same id and body until the receiver has it."""

    id: str
    body: bytes
    entries: Sequence[Entry]


def batch(entries: Sequence[Entry]) -> Webhook:
    """Return a webhook with the first of some events: as many as MAX_BODY_BYTES hold, at least one.

    The same events have the same id, whichever worker sends them.
    """
    texts: list[bytes] = []
    size = 0
    for entry in entries:
        text = msgspec.json.encode(entry.event)
        size += len(text) + 1
        if texts and size > MAX_BODY_BYTES:
            break
        texts.append(text)
    taken = entries[: len(texts)]
    digest = hashlib.sha256("\n".join(entry.event.id for entry in taken).encode()).hexdigest()
    return Webhook(f"batch_{digest[:32]}", b'{"events":[' + b",".join(texts) + b"]}", taken)


def headers(webhook: Webhook, key: bytes, now: float) -> Mapping[str, str]:
    """Return the headers of a webhook that is sent `now`, in seconds since the epoch."""
    timestamp = str(int(now))
    return {
        "content-type": "application/json",
        "webhook-id": webhook.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(key, webhook.id, timestamp, webhook.body),
    }


def signature(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a webhook: HMAC-SHA256 of its id, its timestamp and its body, joined by dots."""
    digest = hmac.digest(key, b".".join((webhook_id.encode(), timestamp.encode(), body)), "sha256")
    return "v1," + base64.b64encode(digest).decode()
