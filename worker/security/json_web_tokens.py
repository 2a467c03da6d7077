"""Authentication by JSON Web Tokens (RFC 7519)."""

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Scope

from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.logs import get_logger
from wsd.worker.security.authentication import (
    LONGEST_SECONDS,
    AuthenticationError,
    Identity,
    NewTokenNeededError,
    TokenExpiredError,
)
from wsd.worker.security.jwks_url import keys_behind

if TYPE_CHECKING:
    import jwt

logger = get_logger(__name__)

BEARER_SUBPROTOCOL = "wsd.bearer"
"""Browsers cannot set headers, but they can set subprotocols: `new WebSocket(url, ["wsd.bearer", token])`."""

CHANNEL_CLAIM = "channel"
"""The claim that only a subscription token has, and no token for a connection."""

MIN_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""A key must be as long as the hash (RFC 7518, 3.2)."""

FILE_CHECK_SECONDS = 5.0
UNKNOWN_KEY_CHECK_SECONDS = 1.0
"""How often a JWKS file is looked at, at most: for tokens with a known key, and for tokens with an unknown one."""


@dataclass(frozen=True)
class JWTSettings:
    """The settings for tokens. One kind of key is set: a shared secret, a public key (PEM) or a JWKS (RFC 7517).

    The JWKS is in a file, or behind a URL.
    """

    secret: str = ""
    public_key_file: str = ""
    jwks_file: str = ""
    jwks_url: str = ""
    algorithms: tuple[str, ...] = ("HS256",)
    audience: str = ""
    issuer: str = ""
    user_claim: str = "sub"
    username_claim: str = "name"
    leeway: float = 10.0  # seconds that clocks may differ
    require_exp: bool = True  # False: a token without `exp` does not end

    @property
    def configured(self) -> bool:
        return bool(self.secret or self.public_key_file or self.jwks_file or self.jwks_url)


def settings_for_tokens(env: WorkerEnv) -> JWTSettings:
    """Return what the settings of a worker say about tokens."""
    return JWTSettings(
        secret=env.jwt_secret,
        public_key_file=env.jwt_public_key_file,
        jwks_file=env.jwt_jwks_file,
        jwks_url=env.jwt_jwks_url,
        algorithms=tuple(filter(None, env.jwt_algorithms.split(","))),
        audience=env.jwt_audience,
        issuer=env.jwt_issuer,
        user_claim=env.jwt_user_claim,
        username_claim=env.jwt_username_claim,
        require_exp=env.jwt_require_exp,
    )


class JWTAuthenticator:
    """Authenticates clients by their JSON Web Tokens."""

    def __init__(
        self,
        settings: JWTSettings,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the keys.

        Raises ValueError if the settings contradict each other, or a file has no key.
        """
        self._wall_clock = wall_clock
        import jwt  # noqa: PLC0415 - 5 MB that only this kind of authentication needs

        self._jwt = jwt
        self._settings = settings
        _check(settings)
        for name in settings.algorithms:
            if name not in jwt.algorithms.get_default_algorithms():
                raise ValueError(f'security.jwt_algorithms: there is no "{name}"')
        self._keys: Callable[[str | None], Any]  # returns a key or an awaitable of one
        if settings.jwks_file:
            self._keys = JWKSFile(Path(settings.jwks_file), clock).key
        elif settings.jwks_url:
            self._keys = keys_behind(settings.jwks_url, clock).key
        else:
            key = settings.secret or _read(Path(settings.public_key_file), "security.jwt_public_key_file")
            for algorithm in settings.algorithms:
                try:
                    jwt.get_algorithm_by_name(algorithm).prepare_key(key)
                except (jwt.InvalidKeyError, ValueError, TypeError) as exc:
                    source = settings.public_key_file or "security.jwt_secret"
                    raise ValueError(f"{source} is no key for {algorithm}: {exc}") from None
            self._keys = lambda kid: key

    async def authenticate(self, scope: Scope) -> Identity:
        """Return who a client is by its token.

        Raises AuthenticationError.
        """
        token = token_of(scope)
        if token is None:
            raise AuthenticationError("a token is missing")
        claims = await self.claims(token)
        if CHANNEL_CLAIM in claims:
            raise AuthenticationError("the token is one for a channel, and not for a connection")
        settings = self._settings
        user_id = claims.get(settings.user_claim)
        if isinstance(user_id, bool) or not isinstance(user_id, str | int) or user_id == "":
            raise AuthenticationError(f"the token has no {settings.user_claim}")
        username = claims.get(settings.username_claim)
        return Identity(
            str(user_id),
            username.strip() if isinstance(username, str) else "",
            claims,
            expires_at=end_of(claims, settings.leeway, self._wall_clock()),
        )

    async def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token, after its signature, its times, its audience and its issuer were checked.

        Raises AuthenticationError.
        """
        settings, jwt = self._settings, self._jwt
        try:
            key = self._keys(jwt.get_unverified_header(token).get("kid"))
            if inspect.isawaitable(key):
                key = await key
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(settings.algorithms),
                audience=settings.audience or None,
                issuer=settings.issuer or None,
                leeway=settings.leeway,
                # PyJWT accepts no number for `sub`. The claim with the user id is checked by `authenticate`.
                options={
                    "require": ["exp"] if settings.require_exp else [],
                    "verify_aud": bool(settings.audience),
                    "verify_sub": False,
                },
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpiredError("the token has expired") from None
        except jwt.MissingRequiredClaimError as exc:
            raise AuthenticationError(f"the token has no {exc.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as exc:
            # The other errors come from claims that are Infinity or nested too deeply.
            logger.info("refused a token: %s", type(exc).__name__)
            # Keys are rotated while clients still have tokens of the earlier key, or before the new key is read here.
            passes = isinstance(exc, jwt.InvalidSignatureError | jwt.InvalidKeyError | jwt.ImmatureSignatureError)
            raise (NewTokenNeededError if passes else AuthenticationError)("the token is not valid") from None
        return claims


def end_of(claims: Mapping[str, Any], leeway: float, now: float) -> float:
    """Return when a connection, or a subscription, ends whose token has these claims.

    That is at `exp`, or after the leeway if `exp` is past already. 0 means never: without `exp`. All times are in
    seconds.
    """
    if "exp" not in claims:
        return 0.0
    exp = int(claims["exp"])
    if exp > now + LONGEST_SECONDS:  # it may even be too large for a float
        return 0.0
    return exp if exp > now else exp + leeway


class JWKSFile:
    """The keys of a JWKS file, by id. The file is read again after it has changed, so that keys can be rotated."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Read the file.

        Raises ValueError if it is not a key set.
        """
        self._path = path
        self._clock = clock
        self._checked_at = clock()
        self._read_state, self._set = self._read()

    def key(self, kid: str | None) -> Any:
        """Return the key with this id, or without an id the only key of the set.

        The key is returned without its algorithm, which a set need not name (RFC 7517, 4.4).
        Raises jwt.PyJWTError if there is no such key.
        """
        import jwt  # noqa: PLC0415

        age = self._clock() - self._checked_at
        known = kid is None or any(key.key_id == kid for key in self._set.keys)
        if age >= (FILE_CHECK_SECONDS if known else UNKNOWN_KEY_CHECK_SECONDS):
            self._read_again()
        if kid is None and len(self._set.keys) == 1:
            return self._set.keys[0].key
        for key in self._set.keys:
            if kid is not None and key.key_id == kid:
                return key.key
        raise jwt.InvalidKeyError("no such key")

    def _state(self) -> tuple[int, int, int, int]:
        """Return what tells versions of the file apart, even two files of the same age behind a symbolic link.

        Raises OSError.
        """
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_dev, found.st_ino

    def _read(self) -> tuple[tuple[int, int, int, int], "jwt.PyJWKSet"]:
        import jwt  # noqa: PLC0415

        try:  # the state comes first, so that a change while the file is read is noticed later
            state = self._state()
        except OSError as exc:
            raise ValueError(f"security.jwt_jwks_file {self._path} cannot be read: {exc}") from None
        text = _read(self._path, "security.jwt_jwks_file")
        try:
            return state, jwt.PyJWKSet.from_json(text)
        except (jwt.PyJWTError, ValueError, AttributeError, TypeError, RecursionError) as exc:
            raise ValueError(f"security.jwt_jwks_file {self._path} is no JSON Web Key Set: {exc}") from None

    def _read_again(self) -> None:
        self._checked_at = self._clock()
        try:
            if (state := self._state()) != self._read_state:
                self._read_state = state  # so that a broken file is reported once
                self._read_state, self._set = self._read()
        except (OSError, ValueError) as exc:
            logger.warning("the keys stay as they were: %s", exc)


def _check(settings: JWTSettings) -> None:
    """Check the settings: a public key must never be the secret of an HMAC, and no token may be unsigned.

    Raises ValueError.
    """
    sources = {
        "jwt_secret": settings.secret,
        "jwt_public_key_file": settings.public_key_file,
        "jwt_jwks_file": settings.jwks_file,
        "jwt_jwks_url": settings.jwks_url,
    }
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        raise ValueError(f"security: exactly one of {', '.join(sources)} must be set, got {', '.join(given) or 'none'}")
    if not settings.algorithms:
        raise ValueError("security.jwt_algorithms must name an algorithm")
    for algorithm in settings.algorithms:
        if algorithm.lower() == "none":
            raise ValueError('security.jwt_algorithms must not hold "none": anybody could be anybody')
        if algorithm.startswith("HS") != bool(settings.secret):
            raise ValueError(f"security.jwt_algorithms: {algorithm} does not go with {given[0]}")
        size, needed = len(settings.secret.encode()), MIN_SECRET_BYTES.get(algorithm, 0)
        if size < needed:
            raise ValueError(f"security.jwt_secret must have {needed} bytes at least for {algorithm}, got {size}")


def _read(path: Path, setting: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{setting} {path} cannot be read: {exc}") from None


def token_of(scope: Scope) -> str | None:
    """Return the token of `Authorization: Bearer`, the subprotocol after `wsd.bearer`, or `?token=`, in this order."""
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    offered = list(scope.get("subprotocols", ()))
    if BEARER_SUBPROTOCOL in offered[:-1]:
        return str(offered[offered.index(BEARER_SUBPROTOCOL) + 1])
    found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])
    return found[0] if found else None


def with_token(scope: Scope, token: str) -> Scope:
    """Return the scope of a handshake as if it had come with another token, in the place where it had its own.

    A handshake without a token gets one in the header `Authorization`.
    """
    headers = MutableHeaders(raw=list(scope.get("headers", ())))
    scheme, _, given = headers.get("authorization", "").partition(" ")
    offered = list(scope.get("subprotocols", ()))
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    if not (scheme.lower() == "bearer" and given.strip()):
        if BEARER_SUBPROTOCOL in offered[:-1]:
            offered[offered.index(BEARER_SUBPROTOCOL) + 1] = token
            headers["sec-websocket-protocol"] = ", ".join(offered)
            return {**scope, "headers": headers.raw, "subprotocols": offered}
        if any(name == "token" and value for name, value in query):
            changed = urlencode([(name, token if name == "token" else value) for name, value in query])
            return {**scope, "query_string": changed.encode()}
    headers["authorization"] = f"Bearer {token}"
    return {**scope, "headers": headers.raw}
