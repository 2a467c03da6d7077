"""The page of the HTTP API, from its OpenAPI document."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from docs.site.reference.json_schema import described, schemas, type_of
from docs.site.reference.markdown import code, page, prose, table
from wsd.worker.endpoints.http_api import ROUTES
from wsd.worker.endpoints.openapi import description


def document() -> bytes:
    """Return the OpenAPI document that workers answer with."""
    return description(ROUTES)


def http_api() -> str:
    """Return all requests and the records in them."""
    api = msgspec.json.decode(document())
    operations = [
        (method.upper(), path, operation) for path, item in api["paths"].items() for method, operation in item.items()
    ]
    parts = [
        "The OpenAPI document: [openapi.json](openapi.json).",
        described(api["info"]),
        table(["request", "what it does"], [[_link(*found), prose(found[2]["summary"])] for found in operations]),
        "## Requests",
    ]
    for found in operations:
        parts += _operation(*found)
    return page([*parts, "## Records", *schemas(api["components"]["schemas"])])


def _link(method: str, path: str, operation: Mapping[str, Any]) -> str:
    return f"[{code(f'{method} {path}')}](#request-{operation['operationId']})"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {code(f'{method} {path}')} {{ #request-{operation['operationId']} }}"
    yield described(operation)
    yield table(
        ["parameter", "in", "value", "default", "meaning"],
        [
            [
                code(each["name"]),
                each["in"],
                type_of(each["schema"]),
                _default(each["schema"]),
                prose(each["description"]),
            ]
            for each in operation.get("parameters", ())
        ],
    )
    if "requestBody" in operation:
        yield f"The body is {_content(operation['requestBody'])}."
    yield table(
        ["status", "answer", "meaning"],
        [_answer(HTTPStatus(int(status)), answer) for status, answer in operation["responses"].items()],
    )


def _answer(status: HTTPStatus, answer: Mapping[str, Any]) -> list[str]:
    meaning = "" if answer["description"] == status.phrase else answer["description"]
    return [f"{status.value} {status.phrase}", _content(answer), prose(meaning)]


def _default(schema: Mapping[str, Any]) -> str:
    return code(str(schema["default"]).lower()) if "default" in schema else ""


def _content(owner: Mapping[str, Any]) -> str:
    """Return the types of a body in words."""
    return " or ".join(
        "plain text" if media == "text/plain" else type_of(content["schema"])
        for media, content in owner.get("content", {}).items()
    )
