"""Functions that endpoints share: they make JSON responses, check keys and read requests."""

import hmac
from collections.abc import Iterable
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wsd.worker.contract.api_keys import Right
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER
from wsd.worker.endpoints.answers import ErrorAnswer
from wsd.worker.errors import WorkerError
from wsd.worker.security.api_keys import refusal
from wsd.worker.worker import Worker

T = TypeVar("T")

MAX_BODY_BYTES = 1_048_576
"""Bytes in the body of a request."""


def json_response(body: object, status: int = 200) -> Response:
    """Return a response with a body of JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def error_response(status: int, message: str) -> Response:
    """Return a response that says in JSON what is wrong."""
    return json_response(ErrorAnswer(message), status)


def is_key(given: str, key: str) -> bool:
    """Compare a key that somebody sent with the secret one, in constant time. An empty secret matches nothing."""
    return bool(key) and hmac.compare_digest(given.encode(), key.encode())


class ApiError(WorkerError):
    """A request is answered with an error. The text is one line for the program that asked."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def check_key(worker: Worker, request: Request, right: Right, channels: Iterable[str] = ()) -> None:
    """Check that the API key of a request has a right, in the channels that the request concerns.

    A request has the key in `Authorization: Bearer` or `X-API-Key`. Without any key in the settings, the API is off.
    The operator of this node needs no API key; nginx removes the header with the operator's key from the requests of
    its clients.

    Raises ApiError.
    """
    if is_key(request.headers.get(OPERATOR_KEY_HEADER, ""), worker.env.operator_key):
        return
    if not worker.api_keys:
        raise ApiError(404, "the API is off: set security.api_key, or a key in [api_keys.NAME]")
    given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
    key = worker.api_keys.find(given)
    if key is None:
        raise ApiError(401, "wrong or missing API key")
    if (problem := refusal(key, right, channels)) is not None:
        raise ApiError(403, problem)


async def body_of(request: Request) -> bytes:
    """Return the body of a request. Raises ApiError for one that is too large or incomplete."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise ApiError(413, f"a request may have {MAX_BODY_BYTES} bytes")
    except ClientDisconnect:
        raise ApiError(400, "the request has ended before its body") from None
    return bytes(body)


async def decoded(request: Request, kind: type[T]) -> T:
    """Return the body of a request, decoded from JSON. Raises ApiError for one of another form."""
    try:
        return msgspec.json.decode(await body_of(request), type=kind)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ApiError(400, str(exc)) from None
