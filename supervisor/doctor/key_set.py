"""The check of the URL with the keys of tokens."""

from collections.abc import Iterator

from wsd.supervisor.monitoring.finding import Finding, failure, ok

CHECK = "security.jwt_jwks_url"
ANSWER_SECONDS = 5.0


def key_set(url: str) -> Iterator[Finding]:
    """Check that the URL of security.jwt_jwks_url answers with keys. Yields nothing for an empty URL."""
    if not url:
        return
    import jwt  # noqa: PLC0415 - 5 MB

    try:
        keys = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=ANSWER_SECONDS).get_jwk_set().keys
    except (jwt.PyJWTError, OSError, ValueError, TypeError, AttributeError, RecursionError) as exc:
        remedy = "check that it is reachable from this machine: until it answers, clients are told to come back later"
        yield failure(CHECK, f"{url} gives no keys: {exc}", remedy)
        return
    names = ", ".join(key.key_id or "a key without a kid" for key in keys if key.public_key_use in ("sig", None))
    if names:
        yield ok(CHECK, f"{url} answers with {names}")
    else:
        yield failure(
            CHECK, f"{url} has no keys for signatures", "name the URL that the issuer of the tokens documents"
        )
