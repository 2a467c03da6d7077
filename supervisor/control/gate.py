"""The gate before every route of the supervisor: it checks the operator's key, and limits the size of requests and
how many of them are under way.

nginx passes requests for the dashboard and the metrics on to the supervisor's socket. All other routes need the
operator's key, which neither nginx nor its clients have.
"""

import asyncio
import hmac
from collections.abc import Callable

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wsd.supervisor.services.nginx_config import DASHBOARD_PATH
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER

METRICS_PATH = "/v1/metrics"
LOGIN_PATH = f"{DASHBOARD_PATH}login"

MAX_BODY_BYTES = 16 * 1024
"""The largest sensible request names 256 slots, in about 1300 bytes."""

MAX_LOGIN_BYTES = 1024

BODY_SECONDS = 5.0
"""How long a client may take to send the body of a request."""

MAX_VISITORS = 64
"""How many requests without the operator's key may be under way, streams of the dashboard among them."""


class ControlGate:
    """An ASGI application that lets requests pass to `app`, or refuses them. `key` returns the operator's key."""

    def __init__(self, app: ASGIApp, key: Callable[[], str]) -> None:
        self._app = app
        self._key = key
        self._visitors = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        if hmac.compare_digest(headers.get(OPERATOR_KEY_HEADER, "").encode(), self._key().encode()):
            await self._pass(scope, receive, send)
        elif not is_for_visitors(scope["path"]):
            reason = f"the operator's key is needed: {OPERATOR_KEY_HEADER} with what is in operator.key"
            await _refusal(403, reason)(scope, receive, send)
        elif self._visitors >= MAX_VISITORS:
            await _refusal(503, "too many requests at the same time", retry_after=1)(scope, receive, send)
        else:
            self._visitors += 1
            try:
                await self._pass(scope, receive, send)
            finally:
                self._visitors -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = MAX_LOGIN_BYTES if scope["path"] == LOGIN_PATH else MAX_BODY_BYTES
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive, limit)
        except TimeoutError:
            await _refusal(408, f"the body did not come within {BODY_SECONDS:g} s")(scope, receive, send)
            return
        if body is None:
            await _refusal(413, f"the body is larger than {limit} bytes")(scope, receive, send)
            return
        bodies = [body]

        async def replay() -> Message:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            return await receive()

        await self._app(scope, replay, send)


def is_for_visitors(path: str) -> bool:
    """Tell whether a path is open to requests without the operator's key, which come through nginx. Pure."""
    return path == METRICS_PATH or path.startswith(DASHBOARD_PATH)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Read the whole body, or return None as soon as it exceeds the limit in bytes."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body  # the client has disconnected
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return body


def _refusal(status: int, reason: str, *, retry_after: int = 0) -> Response:
    headers = {"Connection": "close"} if status in (408, 413) else {}
    if retry_after:
        headers["Retry-After"] = str(retry_after)
    return Response(msgspec.json.encode({"error": reason}), status, headers, "application/json")
