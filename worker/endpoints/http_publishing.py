"""Publishing over HTTP, for programs that are no clients: a cron job, another service."""

import msgspec
from msgspec import Raw, Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wsd.worker.endpoints.responses import error_response, json_response, key_of
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.publisher import Published
from wsd.worker.security.api_keys import refusal
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, check_channel
from wsd.worker.wire.redaction import PayloadFilter
from wsd.worker.worker import Worker

MAX_BATCH = 1000
"""Messages in one request to publish. A message to several channels counts once for each."""

MAX_BODY_BYTES = 1_048_576
"""Bytes in the body of a request to publish."""


class Outgoing(Struct, forbid_unknown_fields=True):
    """A message from another program: to one or several channels, to a user, or to all clients with `broadcast`."""

    data: Raw
    channel: str = ""
    channels: list[str] = []
    user_id: str = ""
    broadcast: bool = False
    idempotency_key: wire.IdempotencyKey | None = None

    @property
    def labels(self) -> list[str]:
        """The names of the channels that the message goes to, as clients know them."""
        if self.broadcast:
            return [BROADCAST]
        if self.user_id:
            return [DIRECT]
        return self.channels or [self.channel]


class Result(Struct, frozen=True, omit_defaults=True):
    """What became of a message in one channel. The position and `durable` are as in an ack of the protocol."""

    channel: str
    everywhere: bool
    offset: int | None = None
    epoch: str | None = None
    durable: bool | None = None


_one = msgspec.json.Decoder(Outgoing)
_several = msgspec.json.Decoder(list[Outgoing])

_bounded = PayloadFilter(())
"""Refuses data that is nested deeper than a client's may be. Removes nothing: holders of the key may send a token."""


async def publish(worker: Worker, request: Request) -> Response:
    """Publish one message or a list of them, for a program that has an API key."""
    key = key_of(worker, request, "publish")
    if isinstance(key, Response):
        return key
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return error_response(413, f"a request may have {MAX_BODY_BYTES} bytes")
    except ClientDisconnect:
        return error_response(400, "the request has ended before its body")
    try:
        messages = _several.decode(body) if body.lstrip().startswith(b"[") else [_one.decode(body)]
        messages = [_checked(worker, message, number) for number, message in enumerate(messages)]
    except (msgspec.DecodeError, wire.WireError, UnicodeDecodeError, RecursionError) as exc:
        return error_response(400, str(exc))
    count = sum(len(message.labels) for message in messages)
    if count > MAX_BATCH:
        return error_response(400, f"a request may have {MAX_BATCH} messages, got {count}")
    if (problem := refusal(key, "publish", (label for message in messages for label in message.labels))) is not None:
        return error_response(403, problem)
    return await _publish_all(worker, messages)


async def _publish_all(worker: Worker, messages: list[Outgoing]) -> Response:
    """Publish messages in order, up to the first that is not stored. Answer with one result for each and channel."""
    results: list[Result] = []
    for number, message in enumerate(messages):
        for label in message.labels:
            try:
                results.append(_result(label, await _send(worker, message, label)))
            except NotStoredError as exc:
                where = f"message {number}" + (f" in {label}" if message.channels else "")
                error = f"{where} is not stored, those before it are published: {exc}"
                return json_response({"error": error, "results": results}, 503)
    everywhere = all(result.everywhere for result in results)
    return json_response({"published": len(results), "distributed": everywhere, "results": results})


def _checked(worker: Worker, message: Outgoing, number: int) -> Outgoing:
    """Return a message as it may be published. Raises WireError or UnicodeDecodeError for one that may not."""
    targets = [bool(message.channel), bool(message.channels), bool(message.user_id), message.broadcast]
    if sum(targets) != 1:
        raise wire.WireError("invalid_request", f"message {number}: needs one of channel, channels, user_id, broadcast")
    if message.channel or message.channels:
        for channel in message.labels:
            check_channel(channel, None)
        if len(set(message.labels)) < len(message.labels):
            raise wire.WireError("invalid_request", f"message {number}: channels holds a channel twice")
    if message.user_id:
        wire.check_user(message.user_id, None)
    size = len(bytes(message.data))
    if size > worker.env.max_message_bytes:
        limit = worker.env.max_message_bytes
        raise wire.WireError("too_big", f"message {number}: data may have {limit} bytes, got {size}")
    bytes(message.data).decode()  # msgspec has not looked into it
    return msgspec.structs.replace(message, data=_bounded(message.data))


async def _send(worker: Worker, message: Outgoing, label: str) -> Published:
    """Publish a message in one of its channels. Raises NotStoredError."""
    manager, key = worker.manager, message.idempotency_key or ""
    if message.user_id:
        return await manager.send_to_user(message.user_id, message.data, idempotency_key=key)
    return await manager.publish(label, message.data, idempotency_key=key)


def _result(label: str, done: Published) -> Result:
    at = done.position
    durable = bool(at) if done.kept else None
    return Result(label, done.everywhere, at.offset if at else None, at.epoch if at else None, durable)
