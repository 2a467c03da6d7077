"""The tokens that `wsd token` makes, and the keys that it refuses."""

from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from wsd.supervisor.cli.signing import claims_of, signed, signing_key
from wsd.supervisor.config.settings import SecurityConfig
from wsd.supervisor.errors import ConfigError, ExitCode

SECRET = "0123456789abcdef0123456789abcdef"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
UNSET = SecurityConfig()
OF_SERVICE = SecurityConfig(jwt_jwks_url="https://login.example.com/jwks", jwt_algorithms=("RS256", "PS256"))


def claims(security: SecurityConfig = UNSET, **changes: Any) -> dict[str, Any]:
    given = {"user": "42", "name": "", "channel": "", "more": [], "issued_at": 1000, "seconds": 60}
    return claims_of(security, **{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"sub": "42"}),
        ({"name": "Ann"}, {"sub": "42", "name": "Ann"}),
        ({"channel": "orders:42"}, {"sub": "42", "channel": "orders:42"}),
        ({"user": "", "channel": "orders:*"}, {"channel": "orders:*"}),
        (
            {"more": ["role=admin", "level=3", "ids=[1]", "x="]},
            {"sub": "42", "role": "admin", "level": 3, "ids": [1], "x": ""},
        ),
        ({"more": ["a=b=c"]}, {"sub": "42", "a": "b=c"}),
        ({"more": [f"deep={'[' * 20_000}"]}, {"sub": "42", "deep": "[" * 20_000}),
    ],
)
def test_the_claims_are_those_that_were_asked_for(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert claims(**changes) == {**expected, "iat": 1000, "exp": 1060}


def test_the_settings_name_the_claims_the_audience_and_the_issuer() -> None:
    security = SecurityConfig(
        jwt_user_claim="uid", jwt_username_claim="nick", jwt_audience="chat", jwt_issuer="https://us"
    )
    expected = {"uid": "42", "nick": "Ann", "aud": "chat", "iss": "https://us", "iat": 1000, "exp": 1060}
    assert claims(security, name="Ann") == expected


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"user": ""}, "--user is needed"),
        ({"channel": "a b"}, '--channel may hold only .* got "a b"'),
        ({"channel": "a*b"}, '--channel may hold only .* got "a\\*b"'),
        ({"more": ["role"]}, '--claim must have the form NAME=VALUE, got "role"'),
        ({"more": ["=x"]}, "--claim must have the form"),
        ({"more": ["exp=1"]}, "--claim exp: the token has this claim already"),
        ({"more": ["a=1", "a=2"]}, "--claim a: the token has this claim already"),
    ],
)
def test_claims_that_make_no_sense_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        claims(**changes)


def test_a_token_is_signed_with_the_secret_of_the_settings() -> None:
    security = SecurityConfig(jwt_secret=SECRET)
    token = signed({"sub": "42"}, signing_key(security, "", ""), "")
    assert jwt.decode(token, SECRET, algorithms=["HS256"]) == {"sub": "42"}


def test_a_token_is_signed_with_a_private_key_where_the_settings_have_public_ones(tmp_path: Path) -> None:
    path = tmp_path / "private.pem"
    path.write_bytes(PRIVATE)
    for algorithm, used in (("", "RS256"), ("PS256", "PS256")):
        token = signed({"sub": "42"}, signing_key(OF_SERVICE, str(path), algorithm), "first")
        assert jwt.get_unverified_header(token) == {"alg": used, "kid": "first", "typ": "JWT"}
        assert jwt.decode(token, KEY.public_key(), algorithms=[used]) == {"sub": "42"}


@pytest.mark.parametrize(
    ("security", "key_file", "algorithm", "problem"),
    [
        (SecurityConfig(), "", "", "security.jwt_secret is not set: set it to 32 random bytes or more"),
        (SecurityConfig(jwt_secret="short"), "", "", "must have 32 bytes at least for HS256, got 5"),
        (SecurityConfig(jwt_secret=SECRET), "", "RS256", "--algorithm RS256 is not in security.jwt_algorithms"),
        (SecurityConfig(jwt_secret=SECRET), "key.pem", "", "--key-file is for public keys in the settings"),
        (OF_SERVICE, "", "", "security.jwt_jwks_url has public keys only"),
        (OF_SERVICE, "missing.pem", "", "--key-file missing.pem cannot be read"),
        (SecurityConfig(jwt_algorithms=()), "", "", "security.jwt_algorithms must name an algorithm"),
    ],
)
def test_without_a_key_that_the_workers_accept_there_is_no_token(
    security: SecurityConfig, key_file: str, algorithm: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        signing_key(security, key_file, algorithm)
    assert raised.value.exit_code == ExitCode.USAGE
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [PUBLIC, b"rubbish", b""], ids=["public", "rubbish", "empty"])
def test_a_file_without_a_private_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"key.pem is no private key for RS256: ."):
        signed({"sub": "42"}, signing_key(OF_SERVICE, str(path), ""), "")
