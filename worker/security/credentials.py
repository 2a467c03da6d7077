"""The proof of who a connected client is, which the client may replace while it is connected."""

import random
import time
from collections.abc import Callable

from starlette.types import Scope

from wsd.worker.security.authentication import Authenticate, AuthenticationError, Identity, identify
from wsd.worker.security.json_web_tokens import with_token
from wsd.worker.wire.close_codes import CloseCode

CREDENTIALS_KEY = "credentials"
"""The key of the Credentials in `scope["state"]`, once a client is authenticated."""

EXPIRED = "the token has expired"

TOKEN_ALONE: Scope = {"type": "websocket", "query_string": b"", "headers": [], "subprotocols": [], "state": {}}
"""A handshake with nothing in it, to which a token is added. Never changed."""

CloseIn = Callable[[float | None, int, str], None]
"""Closes a connection after some seconds, with a close code and a reason. A later call replaces the time.

None: the connection is not closed. Does not block.
"""


class Credentials:
    """The identity of a client, from its handshake or from a later token. The connection ends with it."""

    __slots__ = ("_authenticate", "_close_in", "_grace_seconds", "_scope", "_spread_seconds", "_timeout", "identity")

    def __init__(self, identity: Identity, scope: Scope | None, authenticate: Authenticate, timeout: float) -> None:
        """`scope` is that of the handshake, None if `authenticate` looks at nothing but the token: a scope is some
        kilobytes for each connection. `timeout`: how many seconds `authenticate` may take for another token."""
        self.identity = identity
        # A copy, because applications change a scope, and without the extensions, which lead back to this object.
        self._scope = TOKEN_ALONE if scope is None else {**scope, "state": {**scope["state"]}, "extensions": {}}
        self._authenticate = authenticate
        self._timeout = timeout
        self._close_in: CloseIn | None = None
        self._spread_seconds = self._grace_seconds = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Return for how many seconds the identity is valid. None: nothing ends it."""
        return self.identity.seconds_left(time.time())

    def end_by(self, close_in: CloseIn, spread_seconds: float, grace_seconds: float = 0.0) -> None:
        """Close the connection by `close_in` when the identity is no longer valid.

        It is closed up to `spread_seconds` later, at random, so that clients whose tokens expire together do not all
        reconnect at once. `grace_seconds`: how much later the client may still replace its token.
        """
        self._close_in, self._spread_seconds, self._grace_seconds = close_in, spread_seconds, grace_seconds
        if self.seconds_left is not None:
            self._set_end()

    async def refresh(self, token: str) -> None:
        """Replace the identity by that of another token of the same user, which is checked as in a handshake.

        Raises AuthenticationError. The identity stays as it was then.
        """
        scope = with_token(self._scope, token)
        identity = await identify({**scope, "state": {**scope["state"]}}, self._authenticate, self._timeout)
        if identity.user_id != self.identity.user_id:
            raise AuthenticationError("the token is that of another user")
        self.identity = identity
        self._set_end()

    def _set_end(self) -> None:
        if self._close_in is not None:
            seconds = self.seconds_left
            later = self._grace_seconds + random.uniform(0, self._spread_seconds)
            self._close_in(None if seconds is None else seconds + later, CloseCode.TOKEN_EXPIRED, EXPIRED)
