"""JSON responses and the check of keys, for the HTTP API and for the requests of the supervisor."""

import hmac

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.contract.api_keys import Right
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER
from wsd.worker.security.api_keys import ApiKey, refusal, unlimited
from wsd.worker.worker import Worker

OPERATOR = unlimited("operator")


def json_response(body: object, status: int = 200) -> Response:
    """Return a response with a body of JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def error_response(status: int, message: str) -> Response:
    """Return a response that says in JSON what is wrong."""
    return json_response({"error": message}, status)


def is_key(given: str, key: str) -> bool:
    """Compare a key that somebody sent with the secret one, in constant time. An empty secret matches nothing."""
    return bool(key) and hmac.compare_digest(given.encode(), key.encode())


def key_of(worker: Worker, request: Request, right: Right) -> ApiKey | Response:
    """Return the API key of a request that has a right somewhere, or the refusal of the request.

    A request has the key in `Authorization: Bearer` or `X-API-Key`. Without any key in the settings, the API is off.
    The operator of this node needs no API key; nginx removes the header with the operator's key from the requests of
    its clients.
    """
    if is_key(request.headers.get(OPERATOR_KEY_HEADER, ""), worker.env.operator_key):
        return OPERATOR
    if not worker.api_keys:
        return error_response(404, "the API is off: set security.api_key")
    given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
    key = worker.api_keys.find(given)
    if key is None:
        return error_response(401, "wrong or missing API key")
    return key if (problem := refusal(key, right)) is None else error_response(403, problem)
