"""Publishing over HTTP, for programs that are no clients: a cron job, another service."""

import msgspec
from msgspec import Raw, Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wsd.worker.endpoints.responses import check_api_key, error_response, json_response
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.publisher import Published
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import check_channel
from wsd.worker.wire.redaction import PayloadFilter
from wsd.worker.worker import Worker

MAX_BATCH = 1000
"""Messages in one request to publish."""

MAX_BODY_BYTES = 1_048_576
"""Bytes in the body of a request to publish."""


class Outgoing(Struct, forbid_unknown_fields=True):
    """A message from another program: to a channel, to a user, or to all clients with `broadcast`."""

    data: Raw
    channel: str = ""
    user_id: str = ""
    broadcast: bool = False
    idempotency_key: wire.IdempotencyKey | None = None


_one = msgspec.json.Decoder(Outgoing)
_several = msgspec.json.Decoder(list[Outgoing])

_bounded = PayloadFilter(())
"""Refuses data that is nested deeper than a client's may be. Removes nothing: holders of the key may send a token."""


async def publish(worker: Worker, request: Request) -> Response:
    """Publish one message or a list of them, for a program that has the API key."""
    if (refusal := check_api_key(request, worker.env.api_key, worker.env.operator_key)) is not None:
        return refusal
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
    if len(messages) > MAX_BATCH:
        return error_response(400, f"a request may have {MAX_BATCH} messages, got {len(messages)}")
    done: list[Published] = []
    for message in messages:
        try:
            done.append(await _send(worker, message))
        except NotStoredError as exc:
            return error_response(503, f"message {len(done)} is not stored, those before it are published: {exc}")
    return json_response({"published": len(done), "distributed": all(published.everywhere for published in done)})


def _checked(worker: Worker, message: Outgoing, number: int) -> Outgoing:
    """Return a message as it may be published. Raises WireError or UnicodeDecodeError for one that may not."""
    targets = [bool(message.channel), bool(message.user_id), message.broadcast]
    if sum(targets) != 1:
        raise wire.WireError("invalid_request", f"message {number}: needs one of channel, user_id, broadcast")
    if message.channel:
        check_channel(message.channel, None)
    if message.user_id:
        wire.check_user(message.user_id, None)
    size = len(bytes(message.data))
    if size > worker.env.max_message_bytes:
        limit = worker.env.max_message_bytes
        raise wire.WireError("too_big", f"message {number}: data may have {limit} bytes, got {size}")
    bytes(message.data).decode()  # msgspec has not looked into it
    return msgspec.structs.replace(message, data=_bounded(message.data))


async def _send(worker: Worker, message: Outgoing) -> Published:
    """Publish a message. Raises NotStoredError."""
    manager, key = worker.manager, message.idempotency_key or ""
    if message.channel:
        return await manager.publish(message.channel, message.data, idempotency_key=key)
    if message.user_id:
        return await manager.send_to_user(message.user_id, message.data, idempotency_key=key)
    return await manager.broadcast(message.data, idempotency_key=key)
