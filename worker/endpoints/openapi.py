"""The description of the HTTP API as an OpenAPI 3.1 document, made from its routes."""

import inspect
from collections.abc import Iterable, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from wsd.worker.endpoints.answers import ErrorAnswer
from wsd.worker.endpoints.descriptions import information, schemas
from wsd.worker.endpoints.routes import Route
from wsd.worker.wire.channel_names import CHANNEL_NAME

ABOUT = """The HTTP API of a wsd cluster, for programs of the application: its backend, an administrator's script.

A request needs an API key where it says so, as `X-API-Key` or as `Authorization: Bearer`."""

ERRORS = {
    400: "A parameter, the name of the channel or the body is wrong. Nothing is done.",
    401: "The key is wrong or missing.",
    403: "The key does not have the right, or not in that channel. Nothing is done.",
    404: "There is no API key in the settings, so that nobody may do this.",
    413: "The body is larger than 1 MiB.",
    503: "Redis is away, or the archive to delete from does not answer. Nothing is done.",
}
"""What the statuses of errors mean."""

NO_ADMINISTRATOR = "The address of the client may not see this, or the request names the server by another name."

CHANNEL = {
    "name": "channel",
    "in": "path",
    "required": True,
    "description": "The name of a channel. A `/` or `#` in it is percent-encoded.",
    "schema": {"type": "string", "pattern": f"^{CHANNEL_NAME.pattern}$"},
}


@cache
def description(routes: tuple[Route, ...]) -> bytes:
    """Return the document for these routes as JSON. It is made once, which takes a tenth of a second."""
    return msgspec.json.encode(document(routes))


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document for these routes."""
    kinds: list[Any] = [ErrorAnswer]
    for route in routes:
        for kind in (*route.body, *sum(route.answers.values(), ())):
            if kind not in kinds:
                kinds.append(kind)
    found, components = schemas(kinds)
    schema_of = _Schemas(zip(kinds, found, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        path = paths.setdefault(route.path + "{channel}" if route.of_channel else route.path, {})
        path[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": information("wsd HTTP API", ABOUT),
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


class _Schemas:
    """The schemas of types, as they stand in the content of a request or an answer."""

    def __init__(self, found: Iterable[tuple[Any, dict[str, Any]]]) -> None:
        self._found = list(found)

    def content(self, kinds: tuple[Any, ...]) -> dict[str, Any]:
        """Return a `content` whose schema is that of one of the types."""
        each = [schema for kind in kinds for known, schema in self._found if known == kind]
        schema = each[0] if len(each) == 1 else {"anyOf": each}
        return {"text/plain" if kinds == (str,) else "application/json": {"schema": schema}}


def _operation(route: Route, schema_of: _Schemas) -> dict[str, Any]:
    text = inspect.cleandoc(route.endpoint.__doc__ or "")
    name = route.endpoint.__name__
    operation: dict[str, Any] = {
        "operationId": name if route.method != "HEAD" else f"{name}_head",
        "summary": text.splitlines()[0],
        "description": text,
        "responses": _responses(route, schema_of),
    }
    parameters = [CHANNEL] if route.of_channel else []
    parameters += [
        {"name": each.name, "in": "query", "description": each.meaning, "schema": each.schema}
        for each in route.parameters
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {"required": True, "content": schema_of.content(route.body)}
    if route.right is not None:
        operation["description"] += f"\n\nThe API key needs the right `{route.right}`."
        operation["security"] = [{"bearer": [route.right]}, {"apiKey": [route.right]}]
    if route.for_administrators:
        operation["description"] += "\n\nOnly the addresses in `nginx.admin_allow` are answered."
    return operation


def _responses(route: Route, schema_of: _Schemas) -> dict[str, Any]:
    kinds = {**dict.fromkeys(route.error_statuses, ()), **route.answers}
    for status in route.error_statuses:
        kinds[status] = (*kinds[status], ErrorAnswer)
    responses: dict[str, Any] = {}
    for status in sorted(kinds):
        responses[str(status)] = {"description": _meaning(route, status)}
        if route.method != "HEAD":
            responses[str(status)]["content"] = schema_of.content(kinds[status])
    return responses


def _meaning(route: Route, status: int) -> str:
    """Return what the status of an answer means."""
    if status == 403 and route.for_administrators:
        return NO_ADMINISTRATOR
    return ERRORS[status] if status in route.error_statuses else HTTPStatus(status).phrase
