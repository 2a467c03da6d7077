"""JSON responses and the check of keys, for the HTTP API and for the requests of the supervisor."""

import hmac

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER


def json_response(body: object, status: int = 200) -> Response:
    """Return a response with a body of JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def error_response(status: int, message: str) -> Response:
    """Return a response that says in JSON what is wrong."""
    return json_response({"error": message}, status)


def is_key(given: str, key: str) -> bool:
    """Compare a key that somebody sent with the secret one, in constant time. An empty secret matches nothing."""
    return bool(key) and hmac.compare_digest(given.encode(), key.encode())


def check_api_key(request: Request, key: str, operator_key: str) -> Response | None:
    """Return the refusal of a request without the API key, or None.

    A request has the key in `Authorization: Bearer` or `X-API-Key`. If `key` is empty, the API is off. The operator of
    this node needs no API key; nginx removes the header with the operator's key from the requests of its clients.
    """
    if is_key(request.headers.get(OPERATOR_KEY_HEADER, ""), operator_key):
        return None
    if not key:
        return error_response(404, "the API is off: set security.api_key")
    given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
    return None if is_key(given, key) else error_response(401, "wrong or missing API key")
