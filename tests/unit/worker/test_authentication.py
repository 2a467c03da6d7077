"""The identity of a client, from tokens that are signed with real keys, and from the application."""

import asyncio
import copy
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.types import Scope

from wsd.worker.security.admission import expiry_spread
from wsd.worker.security.authentication import (
    Authenticate,
    AuthenticationError,
    Identity,
    NewTokenNeededError,
    UndecidedError,
    identify,
    load_hook,
    without_secrets,
)
from wsd.worker.security.json_web_tokens import JWTAuthenticator, JWTSettings, token_of, with_token

SECRET = "0123456789abcdef0123456789abcdef"
KEYS = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]


def scope(token: str = "", *, headers: dict[str, str] | None = None, subprotocols: tuple[str, ...] = ()) -> Scope:
    return {
        "type": "websocket",
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
        "subprotocols": list(subprotocols),
        "query_string": f"user_id=x&token={token}".encode() if token else b"",
    }


def claims(**changes: Any) -> dict[str, Any]:
    return {"sub": "42", "name": "Ann", "exp": time.time() + 3600, **changes}


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str = "", **changes: Any) -> Scope:
    return scope(jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid} if kid else None))


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwks(*kids: str) -> str:
    keys = [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) for key in KEYS[: len(kids)]]
    return json.dumps({"keys": [{**key, "kid": kid} for key, kid in zip(keys, kids, strict=True)]})


def identity_by(authenticator: JWTAuthenticator, sent: Scope) -> Identity:
    return asyncio.run(authenticator.authenticate(sent))


def hs256(**changes: Any) -> JWTAuthenticator:
    return JWTAuthenticator(JWTSettings(secret=SECRET, **changes))


def test_a_token_names_its_user() -> None:
    identity = identity_by(hs256(), signed(role="admin"))
    assert (identity.user_id, identity.username, identity.claims["role"]) == ("42", "Ann", "admin")


@pytest.mark.parametrize(
    ("exp", "expires_at"),
    [
        (1_000_000_060, 1_000_000_060),
        (1_000_000_060.9, 1_000_000_060),
        ("1000000060", 1_000_000_060),
        (999_999_995, 1_000_000_005),  # within the leeway of 10 s: until that is over
        (1_000_000_000 + 20 * 365 * 86_400, 0),  # nobody waits for it
        (1e300, 0),
        (10**400, 0),
    ],
)
def test_a_token_holds_until_its_exp(monkeypatch: pytest.MonkeyPatch, exp: Any, expires_at: float) -> None:
    now = 1_000_000_000.0
    monkeypatch.setattr("jwt.api_jwt.datetime", _Clock)
    made = JWTAuthenticator(JWTSettings(secret=SECRET), wall_clock=lambda: now)
    identity = identity_by(made, signed(exp=exp))
    assert identity.expires_at == expires_at
    assert identity.seconds_left(now) == (expires_at - now if expires_at else None)


class _Clock(datetime):
    """The clock of PyJWT."""

    @classmethod
    def now(cls, tz: Any = None) -> "_Clock":
        return cls.fromtimestamp(1_000_000_000, tz)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": float("inf")},
        {"exp": float("-inf")},
        {"exp": float("nan")},
        {"exp": "soon"},
        {"exp": []},
        {"nbf": float("inf")},
        {"nbf": "x"},
        {"nbf": 1e300},
        {"iat": float("nan")},
        {"iat": 1e300},
        {"iat": {}},
    ],
)
def test_times_that_are_none_make_a_token_invalid(changes: dict[str, Any]) -> None:
    with pytest.raises(AuthenticationError, match="the token is not valid"):
        identity_by(hs256(), signed(**changes))


@pytest.mark.parametrize(("connections", "seconds"), [(0, 1), (1000, 1), (5000, 5), (15_000, 10)])
def test_tokens_that_expire_together_end_connections_one_after_the_other(connections: int, seconds: float) -> None:
    assert expiry_spread(connections) == seconds


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"", b""),
        (b"user_id=ann", b"user_id=ann"),
        (b"token=secret", b"token=***"),
        (b"a=1&session=secret&token=other&token=third", b"a=1&session=***&token=***&token=***"),
        (b"%74oke%6E=secret", b"%74oke%6E=***"),
        (b"+token+=secret&tokens=4", b"+token+=***&tokens=4"),
        (b"token", b"token"),
        (b"\xff=\xff&token=\xff", b"\xff=\xff&token=***"),
    ],
)
def test_a_query_is_logged_without_its_secrets(query: bytes, shown: bytes) -> None:
    assert without_secrets(query) == shown


def test_a_number_may_be_a_user_id() -> None:
    assert identity_by(hs256(), signed(sub=42)).user_id == "42"


def test_other_claims_may_hold_the_names() -> None:
    settings = hs256(user_claim="uid", username_claim="nick")
    assert identity_by(settings, signed(uid=7, nick="A.")).user_id == "7"
    assert identity_by(settings, signed(uid="7", nick=["no", "text"])).username == ""


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (scope(), "a token is missing"),
        (scope("rubbish"), "the token is not valid"),
        (signed("f" * 32), "the token is not valid"),
        (signed(algorithm="HS512", key="f" * 64), "the token is not valid"),
        (signed(exp=time.time() - 60), "the token has expired"),
        (signed(exp=None), "the token has no exp"),
        (signed(nbf=time.time() + 3600), "the token is not valid"),
        (signed(sub=""), "the token has no sub"),
        (signed(sub=None), "the token has no sub"),
        (signed(sub=["42"]), "the token has no sub"),
        (scope(jwt.encode(claims(), "", "none")), "the token is not valid"),
    ],
)
def test_a_wrong_token_is_refused_with_the_reason(sent: Scope, problem: str) -> None:
    with pytest.raises(AuthenticationError, match=f"^{problem}$"):
        identity_by(hs256(), sent)


@pytest.mark.parametrize(
    ("sent", "may_come_back"),
    [
        (signed("f" * 32), True),  # the secret was replaced
        (signed(nbf=time.time() + 3600), True),
        (signed(iat=time.time() + 3600), True),
        (signed(exp=time.time() - 60), True),
        (scope(), False),
        (scope("rubbish"), False),
        (signed(algorithm="HS512", key="f" * 64), False),
        (signed(exp=None), False),
        (signed(sub=""), False),
    ],
)
def test_a_token_whose_time_or_key_is_wrong_may_be_replaced(sent: Scope, may_come_back: bool) -> None:
    with pytest.raises(AuthenticationError) as refused:
        identity_by(hs256(), sent)
    assert isinstance(refused.value, NewTokenNeededError) == may_come_back


def test_clocks_may_differ_by_a_few_seconds() -> None:
    assert identity_by(hs256(), signed(exp=time.time() - 5)).user_id == "42"


def test_audience_and_issuer_are_checked_where_they_are_set() -> None:
    checked = hs256(audience="chat", issuer="us")
    assert identity_by(checked, signed(aud="chat", iss="us")).user_id == "42"
    assert identity_by(hs256(), signed(aud="whatever", iss="whoever")).user_id == "42"
    for wrong in ({"aud": "other", "iss": "us"}, {"aud": "chat", "iss": "them"}, {"iss": "us"}, {"aud": "chat"}):
        with pytest.raises(AuthenticationError):
            identity_by(checked, signed(**wrong))


def test_a_public_key_checks_and_does_not_sign(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(public_pem(KEYS[0]))
    authenticator = JWTAuthenticator(JWTSettings(public_key_file=str(path), algorithms=("RS256",)))
    assert identity_by(authenticator, signed(KEYS[0], "RS256")).user_id == "42"
    with pytest.raises(AuthenticationError):
        identity_by(authenticator, signed(KEYS[1], "RS256"))
    # The public key, which everybody has, as the secret of an HMAC: PyJWT itself would not sign it.
    header, payload = signed()["query_string"].decode().partition("token=")[2].split(".")[:2]
    key = jwt.get_algorithm_by_name("HS256")
    forged = key.sign(f"{header}.{payload}".encode(), public_pem(KEYS[0]))
    with pytest.raises(AuthenticationError):
        identity_by(authenticator, scope(f"{header}.{payload}.{jwt.utils.base64url_encode(forged).decode()}"))


def test_keys_that_do_not_name_their_algorithm_serve_all_that_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks("only"))
    authenticator = JWTAuthenticator(JWTSettings(jwks_file=str(path), algorithms=("RS512", "PS256")))
    for algorithm in ("RS512", "PS256"):
        assert identity_by(authenticator, signed(KEYS[0], algorithm, kid="only")).user_id == "42"
    with pytest.raises(AuthenticationError):
        identity_by(authenticator, signed(KEYS[0], "RS256", kid="only"))


def test_keys_of_a_set_are_chosen_by_id_and_may_be_rotated(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks("first"))
    now = 0.0
    authenticator = JWTAuthenticator(JWTSettings(jwks_file=str(path), algorithms=("RS256",)), lambda: now)
    assert identity_by(authenticator, signed(KEYS[0], "RS256")).user_id == "42"  # there is only one
    assert identity_by(authenticator, signed(KEYS[0], "RS256", kid="first")).user_id == "42"
    second = signed(KEYS[1], "RS256", kid="second")
    with pytest.raises(NewTokenNeededError):  # the file is not looked at again within a second
        identity_by(authenticator, second)
    path.write_text(jwks("first", "second"))
    now = 2.0
    assert identity_by(authenticator, second).user_id == "42"
    with pytest.raises(AuthenticationError):
        identity_by(authenticator, signed(KEYS[1], "RS256"))  # which of them?
    path.write_text("broken")
    now = 60.0
    assert identity_by(authenticator, second).user_id == "42", "a broken file takes no keys away"
    path.write_text(jwks("first"))
    now = 120.0
    with pytest.raises(AuthenticationError):
        identity_by(authenticator, second)


def test_a_set_is_read_again_when_a_link_leads_to_another_file_of_the_same_age(tmp_path: Path) -> None:
    """Kubernetes and others swap a link, and copies may keep their times."""
    for name, kids in (("first", ["first"]), ("other", ["first", "second"])):
        (tmp_path / name).write_text(jwks(*kids))
        os.utime(tmp_path / name, (1_000_000, 1_000_000))
    link = tmp_path / "keys.json"
    link.symlink_to(tmp_path / "first")
    now = 0.0
    authenticator = JWTAuthenticator(JWTSettings(jwks_file=str(link), algorithms=("RS256",)), lambda: now)
    link.unlink()
    link.symlink_to(tmp_path / "other")
    now = 2.0
    assert identity_by(authenticator, signed(KEYS[1], "RS256", kid="second")).user_id == "42"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"secret": "short"}, "security.jwt_secret must have 32 bytes at least for HS256, got 5"),
        ({"secret": SECRET, "jwks_file": "x"}, "exactly one of .* must be set, got jwt_secret, jwt_jwks_file"),
        ({"jwks_file": "x", "jwks_url": "https://x"}, "exactly one of .* set, got jwt_jwks_file, jwt_jwks_url"),
        ({"jwks_url": "https://x"}, "HS256 does not go with jwt_jwks_url"),
        ({"secret": SECRET, "algorithms": ()}, "jwt_algorithms must name an algorithm"),
        ({"secret": SECRET, "algorithms": ("none",)}, 'must not hold "none"'),
        ({"secret": SECRET, "algorithms": ("RS256",)}, "RS256 does not go with jwt_secret"),
        ({"public_key_file": "x", "algorithms": ("HS256",)}, "HS256 does not go with jwt_public_key_file"),
        ({"jwks_file": "x", "algorithms": ("RS256", "HS256")}, "HS256 does not go with jwt_jwks_file"),
        ({"public_key_file": "/does/not/exist", "algorithms": ("RS256",)}, "/does/not/exist cannot be read"),
        ({"jwks_file": "/does/not/exist", "algorithms": ("RS256",)}, "/does/not/exist cannot be read"),
        ({"jwks_file": __file__, "algorithms": ("RS256",)}, "is no JSON Web Key Set"),
        ({"public_key_file": __file__, "algorithms": ("RS256",)}, "is no key for RS256"),
        ({"secret": SECRET, "algorithms": ("HS999",)}, 'there is no "HS999"'),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as failure:
        JWTAuthenticator(JWTSettings(**settings))
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("handshake", "changes"),
    [
        (scope(), {"headers": [(b"authorization", b"Bearer new")]}),
        (scope("old"), {"query_string": b"user_id=x&token=new"}),
        (
            scope("old", headers={"cookie": "a=b", "authorization": "Bearer t"}),
            {"headers": [(b"cookie", b"a=b"), (b"authorization", b"Bearer new")]},
        ),
        (
            scope(
                "old",
                headers={"sec-websocket-protocol": "chat, wsd.bearer,t"},
                subprotocols=("chat", "wsd.bearer", "t"),
            ),
            {
                "headers": [(b"sec-websocket-protocol", b"chat, wsd.bearer, new")],
                "subprotocols": ["chat", "wsd.bearer", "new"],
            },
        ),
        (scope(headers={"authorization": "Basic x"}), {"headers": [(b"authorization", b"Bearer new")]}),
    ],
)
def test_another_token_takes_the_place_of_that_of_the_handshake(handshake: Scope, changes: dict[str, Any]) -> None:
    before = copy.deepcopy(handshake)
    changed = with_token(handshake, "new")
    assert changed == {**handshake, **changes}
    assert token_of(changed) == "new"
    assert handshake == before


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (scope(headers={"authorization": "Bearer t"}), "t"),
        (scope(headers={"authorization": "bearer  t "}), "t"),
        (scope(headers={"authorization": "Basic t"}), None),
        (scope(headers={"authorization": "Bearer "}), None),
        (scope(subprotocols=("chat", "wsd.bearer", "t")), "t"),
        (scope(subprotocols=("wsd.bearer",)), None),
        (scope("t"), "t"),
        (scope("query", headers={"authorization": "Bearer header"}, subprotocols=("wsd.bearer", "sub")), "header"),
        (scope("query", subprotocols=("wsd.bearer", "sub")), "sub"),
        (scope(), None),
    ],
)
def test_a_token_may_be_in_a_header_a_subprotocol_or_the_query(sent: Scope, expected: str | None) -> None:
    assert token_of(sent) == expected


def known(scope: Scope) -> Identity:
    return Identity("ann")


async def known_later(scope: Scope) -> Identity:
    await asyncio.sleep(0)
    return Identity("ann", "Ann")


def unknown(scope: Scope) -> None:
    return None


def invisible(scope: Scope) -> Identity:
    return Identity("a\u202eb")


def broken(scope: Scope) -> Identity:
    raise RuntimeError("the database is away: secret")


def unwilling(scope: Scope) -> Identity:
    raise AuthenticationError("your trial is over")


def nobody_we_know(scope: Scope) -> Identity:
    return {"user_id": "ann"}  # type: ignore[return-value]


def numbered(scope: Scope) -> Identity:
    return Identity(42)  # type: ignore[arg-type]


def unnumbered(scope: Scope) -> Identity:
    return Identity(4.2)  # type: ignore[arg-type]


def timed_out(scope: Scope) -> Identity:
    raise TimeoutError("of the database")


async def slow(scope: Scope) -> Identity:
    await asyncio.sleep(60)
    return Identity("ann")


@pytest.mark.anyio
async def test_an_applications_own_answer_may_come_later() -> None:
    assert await identify(scope(), known, 5) == Identity("ann", "ann")
    assert await identify(scope(), known_later, 5) == Identity("ann", "Ann")
    assert await identify(scope(), numbered, 5) == Identity("42", "42")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        (unknown, "not authenticated"),
        (invisible, r"user_id must not contain U\+202E"),
        (broken, "authentication failed"),
        (nobody_we_know, "authentication failed"),
        (unnumbered, "authentication failed"),
        (timed_out, "authentication failed"),
        (unwilling, "your trial is over"),
        (slow, "authentication took too long"),
    ],
)
async def test_an_applications_refusal(hook: Authenticate, problem: str) -> None:
    with pytest.raises(AuthenticationError, match=f"^{problem}$") as refused:
        await identify(scope(), hook, 0.05)
    undecided = problem in ("authentication failed", "authentication took too long")
    assert isinstance(refused.value, UndecidedError) == undecided


def test_a_hook_is_found_by_name() -> None:
    assert load_hook("security.authenticate", f"{__name__}:known") is known
    for wrong in (f"{__name__}:missing", "no.such.module:f", f"{__name__}:SECRET", "rubbish"):
        with pytest.raises(ValueError, match=r"security\.authenticate"):
            load_hook("security.authenticate", wrong)
