"""The page of the hub's protocol, from its AsyncAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from docs.site.reference.json_schema import anchor, described, fields, schemas
from docs.site.reference.markdown import code, page, prose, table
from wsd.worker.endpoints.asyncapi import description


def document() -> bytes:
    """Return the AsyncAPI document that workers answer with."""
    return description()


def websocket() -> str:
    """Return the handshake, the requests and their answers, what the server sends by itself, and the close codes."""
    api = msgspec.json.decode(document())
    hub, operations, records = api["channels"]["hub"], api["operations"], api["components"]["schemas"]
    handshake = hub["bindings"]["ws"]
    requests = {name: each for name, each in operations.items() if each["action"] == "receive"}
    parts = [
        "The AsyncAPI document: [asyncapi.json](asyncapi.json).",
        described(api["info"]),
        "## The handshake",
        f"Clients connect to {code(hub['address'])}.",
        "Parameters in the query of the URL:",
        fields(handshake["query"]),
        "Headers:",
        fields(handshake["headers"]),
        "## Requests of clients",
        table(
            ["request", "what it is", "answers"],
            [
                [
                    _link(_names(each)[0], _type_of(records, _names(each)[0])),
                    prose(each["summary"]),
                    ", ".join(_link(reply, _type_of(records, reply)) for reply in _names(each["reply"])),
                ]
                for each in requests.values()
            ],
        ),
        "## Messages of the server",
        operations["notify"]["summary"],
        table(
            ["message", "what it is"],
            [
                [_link(name, _type_of(records, name)), prose(_summary(records[name]))]
                for name in _names(operations["notify"])
            ],
        ),
        "## Error codes",
        ", ".join(code(each) for each in records["Error"]["properties"]["code"]["examples"]) + ".",
        "[The protocol](../protocol.md#errors) says what each means. An application may have codes of its own.",
        "## Close codes",
        *_close_codes(hub),
        "## Records",
        *schemas(records),
    ]
    return page(parts)


def _close_codes(hub: Mapping[str, Any]) -> Iterator[str]:
    yield from hub["description"].partition("\n\n| ")[0].split("\n\n")
    yield table(["code", "meaning"], [[number, prose(words)] for number, words in hub["x-close-codes"].items()])
    yield "What a client does after each code is in [the protocol](../protocol.md#close-codes)."


def _names(operation: Mapping[str, Any]) -> list[str]:
    """Return the names of the messages of an operation, or of its reply."""
    return [message["$ref"].rpartition("/")[2] for message in operation["messages"]]


def _link(name: str, shown: str) -> str:
    return f"[{shown}](#{anchor(name)})"


def _type_of(records: Mapping[str, Any], name: str) -> str:
    """Return the `type` of a message, by which programs know it."""
    kind = records[name].get("properties", {}).get("type")
    return code(kind["enum"][0]) if kind else "an object without a `type`"


def _summary(schema: Mapping[str, Any]) -> str:
    return str(schema["description"].partition("\n\n")[0])
