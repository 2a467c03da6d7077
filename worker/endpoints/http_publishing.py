"""Publishing over HTTP, for programs that are no clients: a cron job, another service."""

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct
from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.endpoints.answers import PublishAnswer, Result
from wsd.worker.endpoints.responses import ApiError, body_of, check_key, json_response
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.publisher import Published
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, check_channel
from wsd.worker.wire.redaction import PayloadFilter
from wsd.worker.worker import Worker

MAX_BATCH = 1000
"""Messages in one request to publish. A message to several channels counts once for each."""


class Outgoing(Struct, forbid_unknown_fields=True):
    """A message from another program.

    It has one of `channel`, `channels`, `user_id` and `broadcast`.
    """

    data: Raw
    channel: str = ""
    """The channel that the message is for."""

    channels: list[str] = []
    """Several channels, each of which gets the message."""

    user_id: str = ""
    """The user whose connections get the message."""

    broadcast: bool = False
    """Whether all clients get the message."""

    idempotency_key: wire.IdempotencyKey | None = None
    exclude: Annotated[str, Meta(max_length=128)] = ""
    """The id of a session whose connection does not get the message."""

    @property
    def labels(self) -> list[str]:
        """The names of the channels that the message goes to, as clients know them."""
        if self.broadcast:
            return [BROADCAST]
        if self.user_id:
            return [DIRECT]
        return self.channels or [self.channel]


_one = msgspec.json.Decoder(Outgoing)
_several = msgspec.json.Decoder(list[Outgoing])

_bounded = PayloadFilter(())
"""Refuses data that is nested deeper than a client's may be. Removes nothing: holders of the key may send a token."""


async def publish(worker: Worker, request: Request) -> Response:
    """Publish one message or a list of them, for a program that has an API key.

    A list has up to 1000 messages; one to several channels counts once for each. If a message is wrong, none is
    published. With 503, Redis has refused a message: the others are published.
    """
    body = await body_of(request)
    try:
        messages = _several.decode(body) if body.lstrip().startswith(b"[") else [_one.decode(body)]
        messages = [_checked(worker, message, number) for number, message in enumerate(messages)]
    except (msgspec.DecodeError, wire.RequestError, UnicodeDecodeError, RecursionError) as exc:
        raise ApiError(400, str(exc)) from None
    count = sum(len(message.labels) for message in messages)
    if count > MAX_BATCH:
        raise ApiError(400, f"a request may have {MAX_BATCH} messages, got {count}")
    check_key(worker, request, "publish", (label for message in messages for label in message.labels))
    # All messages are on their way side by side, and keep their order.
    results = await asyncio.gather(*(_sent(worker, message, label) for message in messages for label in message.labels))
    stored = [result for result in results if not result.error]
    everywhere = all(result.everywhere for result in stored)
    answer = PublishAnswer(published=len(stored), distributed=everywhere, results=results)
    if len(stored) == len(results):
        return json_response(answer)
    number, first = next((number, result) for number, result in enumerate(results) if result.error)
    error = f"{len(results) - len(stored)} of {count} messages are not stored, the first is {number}: {first.error}"
    return json_response(msgspec.structs.replace(answer, error=error), 503)


async def _sent(worker: Worker, message: Outgoing, label: str) -> Result:
    """Publish a message in one of its channels."""
    try:
        done = await _send(worker, message, label)
    except NotStoredError as exc:
        return Result(label, everywhere=None, error=str(exc))
    at = done.position
    durable = bool(at) if done.kept else None
    return Result(label, done.everywhere, at.offset if at else None, at.epoch if at else None, durable)


def _checked(worker: Worker, message: Outgoing, number: int) -> Outgoing:
    """Return a message as it may be published. Raises RequestError or UnicodeDecodeError for one that may not."""
    targets = [bool(message.channel), bool(message.channels), bool(message.user_id), message.broadcast]
    if sum(targets) != 1:
        raise wire.RequestError(
            "invalid_request", f"message {number}: needs one of channel, channels, user_id, broadcast"
        )
    if message.channel or message.channels:
        for channel in message.labels:
            check_channel(channel)
        if len(set(message.labels)) < len(message.labels):
            raise wire.RequestError("invalid_request", f"message {number}: channels holds a channel twice")
    if message.user_id:
        wire.check_user(message.user_id)
    size = len(bytes(message.data))
    if size > worker.env.max_message_bytes:
        limit = worker.env.max_message_bytes
        raise wire.RequestError("too_big", f"message {number}: data may have {limit} bytes, got {size}")
    bytes(message.data).decode()  # msgspec has not looked into it
    return msgspec.structs.replace(message, data=_bounded(message.data))


async def _send(worker: Worker, message: Outgoing, label: str) -> Published:
    """Publish a message in one of its channels. Raises NotStoredError."""
    manager, key = worker.manager, message.idempotency_key or ""
    if message.user_id:
        return await manager.send_to_user(message.user_id, message.data, idempotency_key=key, exclude=message.exclude)
    return await manager.publish(label, message.data, idempotency_key=key, exclude=message.exclude)
