"""Admission of clients: a limit on handshakes, allowed origins, and authentication."""

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.logs import get_logger
from wsd.worker.security.authentication import (
    Authenticate,
    AuthenticationError,
    Identity,
    NewTokenNeededError,
    TokenExpiredError,
    UndecidedError,
    identify,
    load_hook,
    unauthenticated,
)
from wsd.worker.security.credentials import CREDENTIALS_KEY, TOKEN_ALONE, CloseIn, Credentials
from wsd.worker.security.json_web_tokens import (
    BEARER_SUBPROTOCOL,
    JWTAuthenticator,
    settings_for_tokens,
    with_token,
)
from wsd.worker.security.limits import TokenBucket, origin_allowed
from wsd.worker.wire import frames
from wsd.worker.wire.close_codes import CloseCode

logger = get_logger(__name__)

IDENTITY_KEY = "identity"
"""The key of the Identity in `scope["state"]`, once a client is authenticated."""

DEFERRED_KEY = "deferred_authentication"
"""The key of the DeferredAuthentication in `scope["state"]` of a client that shows its token in its first message."""

GUEST = unauthenticated("", "")
"""A client that nothing identifies."""

EXPIRIES_PER_SECOND = 1000
"""How many connections a worker closes in a second if their tokens expire together."""

MAX_EXPIRY_SPREAD_SECONDS = 10.0
"""The limit for the time over which such connections are closed, however many they are."""


@dataclass(frozen=True)
class Refusal:
    """The reason why a client is not admitted, and the answer to its handshake.

    With a `status`, the handshake is answered by that HTTP status. Without one it is accepted and then closed with
    `code`: failed authentication is reported like this, since browsers do not show HTTP answers to their pages.
    """

    reason: str  # the label under which it is counted
    text: str
    status: int = 0  # 0: accept, then close with `code`
    code: int = CloseCode.POLICY
    retry_after: int = 0  # seconds


_may_come_later = False


def let_tokens_come_later() -> None:
    """Note that this process serves clients that show their token in their first message, at paths of their own."""
    global _may_come_later  # noqa: PLW0603
    _may_come_later = True


def tokens_may_come_later() -> bool:
    """Return whether this process serves such clients. Their endpoint refuses those that show no token then."""
    return _may_come_later


class DeferredAuthentication:
    """Decides who a client is by a token that comes after its handshake."""

    def __init__(self, scope: Scope | None, authenticate: Authenticate, timeout: float) -> None:
        """As for `Credentials`."""
        self._scope = scope
        self._authenticate = authenticate
        self._timeout = timeout

    async def credentials(self, token: str) -> Credentials:
        """Return the credentials of a client with a token, as if the token had come with the handshake.

        Raises AuthenticationError.
        """
        scope = with_token(TOKEN_ALONE if self._scope is None else self._scope, token)
        scope = {**scope, "state": {**scope["state"]}}
        identity = await identify(scope, self._authenticate, self._timeout)
        return Credentials(identity, self._scope, self._authenticate, self._timeout)


class Admission:
    """Decides about handshakes."""

    def __init__(self, env: WorkerEnv, authenticate: Authenticate | None) -> None:
        """`authenticate` is a function of the application, and replaces the authentication that `env` sets.

        Raises ValueError if the settings contradict each other.
        """
        self._authenticate = authenticate or authenticator(env)
        self._is_own = authenticate is not None or bool(env.authenticate)  # it may look at the whole handshake
        self._timeout = env.handshake_timeout
        self._origins = frozenset(filter(None, env.allowed_origins.split(",")))
        self._bucket: TokenBucket | None = None
        if env.handshakes_per_second:
            self._bucket = TokenBucket(env.handshakes_per_second, max(1.0, env.handshake_burst), time.monotonic())

    async def refusal(
        self, scope: Scope, *, authentication_only: bool = False, deferred: bool = False
    ) -> Refusal | None:
        """Return why a client is refused, or None. The identity of an admitted client is put into the scope's state.

        `authentication_only` is for a handshake whose rate and origin were checked already. `deferred`: the client may
        show its token later, and the endpoint decides then. A handshake that tells nothing is no reason to refuse it.
        """
        found = None if authentication_only else self._check_rate_and_origin(scope)
        if found is None and self._authenticate is not None:
            kept = scope if self._is_own else None
            if deferred:
                scope["state"][DEFERRED_KEY] = DeferredAuthentication(kept, self._authenticate, self._timeout)
            try:
                identity = await identify(scope, self._authenticate, self._timeout)
                scope["state"][CREDENTIALS_KEY] = Credentials(identity, kept, self._authenticate, self._timeout)
                scope["state"][IDENTITY_KEY] = identity
            except TokenExpiredError as exc:
                found = Refusal("expired", str(exc), code=CloseCode.TOKEN_EXPIRED)
            except NewTokenNeededError as exc:
                found = Refusal("unauthenticated", str(exc), code=CloseCode.TOKEN_EXPIRED)
            except UndecidedError as exc:
                found = Refusal("unauthenticated", str(exc), code=CloseCode.INTERNAL_ERROR)
            except AuthenticationError as exc:
                found = Refusal("unauthenticated", str(exc))
            if deferred:
                return None
        if found is not None:
            logger.info("refused a handshake: %s", found.text)
        return found

    def _check_rate_and_origin(self, scope: Scope) -> Refusal | None:
        now = time.monotonic()
        if self._bucket is not None and not self._bucket.take(now):
            wait = math.ceil(self._bucket.wait(now))
            return Refusal("busy", "too many handshakes", 503, retry_after=max(1, wait))
        headers = Headers(scope=scope)
        scheme = "https" if scope.get("scheme") in ("wss", "https") else "http"
        origins: list[str | None] = [*headers.getlist("origin")]
        for origin in origins or [None]:
            if not origin_allowed(origin, headers.get("host", ""), self._origins, scheme):
                return Refusal("origin", f"origin {origin} is not allowed", 403)
        return None


def authenticator(env: WorkerEnv) -> Authenticate | None:
    """Return the authentication that the settings ask for. Without it, clients choose their own user ids.

    Raises ValueError if the settings contradict each other.
    """
    settings = settings_for_tokens(env)
    if env.authenticate and settings.configured:
        raise ValueError("security.authenticate and security.jwt_* exclude each other: choose one")
    if env.authenticate:
        return load_hook("security.authenticate", env.authenticate)
    return JWTAuthenticator(settings).authenticate if settings.configured else None


def identity_in(scope: Scope) -> Identity | None:
    """Return the identity that wsd's authentication or Starlette's AuthenticationMiddleware has put into a scope.

    A user that Starlette's middleware has not authenticated is a guest, who has no user id. None: neither has run.
    """
    found: Identity | None = scope.get("state", {}).get(IDENTITY_KEY)
    if found is not None or "user" not in scope:
        return found
    user = scope["user"]
    if not getattr(user, "is_authenticated", False):
        return GUEST
    name = _text_of(user, "display_name")
    return Identity(_text_of(user, "identity") or name, name)


def _text_of(user: object, attribute: str) -> str:
    """Return an attribute of Starlette's user as text, "" if it has none."""
    try:
        return str(getattr(user, attribute))
    except (AttributeError, NotImplementedError):  # Starlette's own SimpleUser has no identity
        return ""


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the handshake of a client that is not admitted."""
    await receive()  # websocket.connect
    if not refusal.status:
        await send({"type": "websocket.accept", "subprotocol": subprotocol(scope)})
        reason = frames.close_reason(refusal.text)
        await send({"type": "websocket.close", "code": int(refusal.code), "reason": reason})
    elif "websocket.http.response" in scope.get("extensions", {}):
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if refusal.retry_after:
            headers.append((b"retry-after", str(refusal.retry_after).encode()))
        await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": refusal.text.encode()})
    else:
        await send({"type": "websocket.close"})


def expiry_spread(connections: int) -> float:
    """Return the seconds over which so many connections are closed if their tokens expire together."""
    return min(max(1.0, connections / EXPIRIES_PER_SECOND), MAX_EXPIRY_SPREAD_SECONDS)


async def run_admitted(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    spread_seconds: float = 1.0,
    close_in: CloseIn | None = None,
) -> None:
    """Run the application for an admitted client, and close the connection when the client's token expires.

    `spread_seconds`: see `Credentials.end_by`. `close_in` closes the connection. Without it that is done by `send`.
    """
    credentials: Credentials | None = scope["state"].get(CREDENTIALS_KEY)
    send = with_subprotocol(scope, send)
    if credentials is None:
        await app(scope, receive, send)
    elif close_in is not None:
        credentials.end_by(close_in, spread_seconds)
        await app(scope, receive, send)
    else:
        closing = _Closing(send)
        credentials.end_by(closing.close_in, spread_seconds)
        try:
            await app(scope, receive, closing.send)
        finally:
            closing.stop()


class _Closing:
    """Closes the WebSocket of an application after some seconds, under a server that has only ASGI.

    What the application sends after that is dropped. It learns of the end from `receive`.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._over = False
        self._task: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        if not self._over:
            await self._send(message)

    def close_in(self, seconds: float | None, code: int, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if seconds is not None and not self._over:
            self._task = asyncio.create_task(self._close(seconds, code, reason))

    def stop(self) -> None:
        """Note that the application has ended: nothing is to be closed any more."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    async def _close(self, seconds: float, code: int, reason: str) -> None:
        await asyncio.sleep(seconds)
        self._over = True
        with contextlib.suppress(OSError, RuntimeError):  # the connection has ended by itself
            await self._send({"type": "websocket.close", "code": int(code), "reason": reason})


def subprotocol(scope: Scope) -> str | None:
    """Return the subprotocol to accept for a client that sent its token as another one, or None (RFC 6455, 4.1)."""
    return BEARER_SUBPROTOCOL if BEARER_SUBPROTOCOL in scope.get("subprotocols", ()) else None


def with_subprotocol(scope: Scope, send: Send) -> Send:
    """Return a `send` that adds `subprotocol(scope)` if the application accepts without a subprotocol."""
    chosen = subprotocol(scope)
    if chosen is None:
        return send

    async def send_with_subprotocol(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": chosen}
        await send(message)

    return send_with_subprotocol
