"""JSON responses, and the check of a secret key: the same for the HTTP API and for the supervisor's requests."""

import hmac

import msgspec
from starlette.responses import Response


def json_response(body: object, status: int = 200) -> Response:
    """Return a response with a body of JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def error_response(status: int, message: str) -> Response:
    """Return a response that says in JSON what is wrong."""
    return json_response({"error": message}, status)


def is_key(given: str, key: str) -> bool:
    """Compare a key that somebody sent with the secret one, in a time that tells nothing. No key is ever empty."""
    return bool(key) and hmac.compare_digest(given.encode(), key.encode())
