"""The claims and the key of a token that `wsd token` makes."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsd.supervisor.config.settings import SecurityConfig
from wsd.supervisor.errors import ConfigError

CHANNEL = re.compile(r"[A-Za-z0-9_.:@/#-]{1,255}|[A-Za-z0-9_.:@/#-]{0,254}\*")
"""What the claim `channel` may be: the name of a channel, or the beginning of names with `*` at its end."""

PUBLIC_KEYS = ("jwt_public_key_file", "jwt_jwks_file", "jwt_jwks_url")

SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The least size of a secret, below which workers do not start: that of the hash (RFC 7518, 3.2)."""


@dataclass(frozen=True)
class SigningKey:
    """What signs a token."""

    key: str
    algorithm: str
    source: str  # the setting or the file that has the key


def claims_of(
    security: SecurityConfig,
    *,
    user: str,
    name: str,
    channel: str,
    more: Iterable[str],
    issued_at: int,
    seconds: int,
) -> dict[str, Any]:
    """Return the claims of a token, as the settings name them. Pure.

    `channel`: "" for a token for a connection. `more`: further claims as `name=value`, whose values are JSON or text.

    Raises ConfigError.
    """
    if not user and not channel:
        raise ConfigError("--user is needed: it names the user that the token is for")
    if channel and not CHANNEL.fullmatch(channel):
        problem = 'may hold only A-Z a-z 0-9 _ . : @ / # -, and "*" at its end'
        raise ConfigError(f"--channel {problem}, got {json.dumps(channel)}")
    given = {
        security.jwt_user_claim: user,
        security.jwt_username_claim: name,
        "channel": channel,
        "aud": security.jwt_audience,
        "iss": security.jwt_issuer,
    }
    claims: dict[str, Any] = {key: value for key, value in given.items() if value}
    claims |= {"iat": issued_at, "exp": issued_at + seconds}
    for text in more:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigError(f"--claim must have the form NAME=VALUE, got {json.dumps(text)}")
        if key in claims:
            raise ConfigError(f"--claim {key}: the token has this claim already")
        claims[key] = _json_or_text(value)
    return claims


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def signing_key(security: SecurityConfig, key_file: str, algorithm: str) -> SigningKey:
    """Return the key that signs tokens which the workers accept: that in `key_file`, or security.jwt_secret.

    `algorithm`: "" for the first of security.jwt_algorithms.

    Raises ConfigError.
    """
    if not security.jwt_algorithms:
        raise ConfigError("security.jwt_algorithms must name an algorithm")
    chosen = algorithm or security.jwt_algorithms[0]
    if chosen not in security.jwt_algorithms:
        allowed = ", ".join(security.jwt_algorithms)
        raise ConfigError(
            f"--algorithm {chosen} is not in security.jwt_algorithms ({allowed}): workers would refuse it"
        )
    public = next((key for key in PUBLIC_KEYS if getattr(security, key)), None)
    if key_file and public is not None:
        try:
            return SigningKey(Path(key_file).read_text("utf-8"), chosen, key_file)
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"--key-file {key_file} cannot be read: {exc}") from None
    if key_file:
        raise ConfigError(
            f"--key-file is for public keys in the settings: set one of security.{', '.join(PUBLIC_KEYS)}"
        )
    if public is not None:
        raise ConfigError(f"security.{public} has public keys only: name the file of the private key with --key-file")
    least = SECRET_BYTES.get(chosen, 32)
    if not security.jwt_secret:
        raise ConfigError(f"security.jwt_secret is not set: set it to {least} random bytes or more")
    if (size := len(security.jwt_secret.encode())) < least:
        raise ConfigError(f"security.jwt_secret must have {least} bytes at least for {chosen}, got {size}")
    return SigningKey(security.jwt_secret, chosen, "security.jwt_secret")


def signed(claims: dict[str, Any], signing: SigningKey, key_id: str) -> str:
    """Return the token. `key_id`: that of the key in a JSON Web Key Set, or "".

    Raises ConfigError for a key that cannot sign.
    """
    import jwt  # noqa: PLC0415 - 5 MB

    try:
        return jwt.encode(claims, signing.key, signing.algorithm, headers={"kid": key_id} if key_id else None)
    except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError, AttributeError) as exc:
        raise ConfigError(f"{signing.source} is no private key for {signing.algorithm}: {exc}") from None
