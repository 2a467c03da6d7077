"""The identity of a client, as a function tells it: that of the application, or that of `json_web_tokens`."""

import asyncio
import importlib
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import unquote_plus

import msgspec
from starlette.types import Scope

from wsd.worker.background.waiting import raise_if_cancelled
from wsd.worker.errors import WorkerError
from wsd.worker.logs import get_logger
from wsd.worker.wire.names import names_problem

logger = get_logger(__name__)

LONGEST_SECONDS = 10 * 365 * 86_400.0
"""Tokens that are valid for longer than this have no timer."""


class Identity(msgspec.Struct, frozen=True):
    """The identity of a client, as an `authenticate` function returns it."""

    user_id: str
    """The id of the user. A number, such as a primary key, may be given, and is a text from then on."""

    username: str = ""
    """The name that others see. By default it is the user id."""

    claims: dict[str, Any] = {}
    """The claims of the client's token."""

    expires_at: float = 0.0
    """When the connection is closed with 4401, in seconds since the epoch. 0 means never."""

    authenticated: bool = True
    """False for a client that chose its own name, and for one that a function admits as a guest."""

    def __post_init__(self) -> None:
        given: object = self.user_id  # the application may not be type-checked
        if isinstance(given, int):
            msgspec.structs.force_setattr(self, "user_id", str(given))

    def seconds_left(self, now: float) -> float | None:
        """Return for how many seconds from `now` the identity is valid. None: no timer is needed."""
        seconds = self.expires_at - now
        return max(0.0, seconds) if self.expires_at and seconds < LONGEST_SECONDS else None  # also for NaN


def unauthenticated(user_id: str, username: str) -> Identity:
    """Return the identity of a client that chose its own name."""
    return Identity(user_id, username, authenticated=False)


Authenticate = Callable[[Scope], Identity | Awaitable[Identity | None] | None]
"""A function of the application that returns who a client is, or None to refuse it."""


class AuthenticationError(WorkerError):
    """The client could not be authenticated. The text is one line for the client, without what it sent."""


class NewTokenNeededError(AuthenticationError):
    """The token cannot be used now: its time or its key is not the right one. The client may come back with another."""


class TokenExpiredError(NewTokenNeededError):
    """The token has expired."""


class UndecidedError(AuthenticationError):
    """The application failed to say who the client is. The client may come back."""


SECRET_PARAMETERS = frozenset({"token", "session"})
"""Query parameters of a handshake that are secret: a JSON Web Token, a resume token."""


def without_secrets(query: bytes) -> bytes:
    """Return a query string for logs, without the values of SECRET_PARAMETERS."""
    shown = []
    for part in query.split(b"&"):
        name, equals, _ = part.partition(b"=")
        is_secret = equals and unquote_plus(name.decode("latin-1")).strip() in SECRET_PARAMETERS
        shown.append(name + b"=***" if is_secret else part)
    return b"&".join(shown)


def load_hook(setting: str, spec: str) -> Callable[..., Any]:
    """Import the function that a setting names as `module:function`.

    Raises ValueError if there is no such function.
    """
    module_name, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as exc:  # noqa: BLE001 - importing the module may raise anything
        raise ValueError(f'{setting} "{spec}" cannot be imported: {exc}') from None
    if not callable(found):
        raise ValueError(f'{setting} "{spec}" is not a function')  # noqa: TRY004 - the value of a setting is wrong
    return cast(Callable[..., Any], found)


async def identify(scope: Scope, authenticate: Authenticate, timeout: float) -> Identity:
    """Ask who a client is, for at most `timeout` seconds.

    Raises AuthenticationError.
    """
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            answer = authenticate(scope)
            identity = await answer if inspect.isawaitable(answer) else answer
            if identity is not None:  # the application may not be type-checked
                identity = msgspec.convert(msgspec.structs.asdict(identity), Identity)
    except AuthenticationError:
        raise
    except (Exception, asyncio.CancelledError) as exc:
        raise_if_cancelled()  # otherwise something that the application awaited was cancelled
        if isinstance(exc, TimeoutError) and limit.expired():  # rather than a timeout of the application's own
            raise UndecidedError("authentication took too long") from None
        logger.exception("the application's authentication failed")
        raise UndecidedError("authentication failed") from None
    if identity is None:
        raise AuthenticationError("not authenticated")
    identity = msgspec.structs.replace(identity, username=identity.username or identity.user_id)
    if problem := names_problem(identity.user_id, identity.username):
        raise AuthenticationError(problem)
    if identity.seconds_left(time.time()) == 0:
        raise TokenExpiredError("the token has expired")
    return identity
