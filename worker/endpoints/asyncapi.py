"""The description of the hub's protocol as an AsyncAPI 3.0 document, made from the records of its messages."""

import inspect
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from wsd.worker.endpoints.descriptions import Message, information, schemas
from wsd.worker.wire import messages as wire
from wsd.worker.wire.close_codes import CLEAN_CODES, MEANINGS, CloseCode

REPLIES: dict[type[Struct], tuple[type[Struct], ...]] = {
    wire.Broadcast: (wire.Ack, wire.Error),
    wire.Subscribe: (wire.Subscribed, wire.Ack, wire.Error),
    wire.Unsubscribe: (wire.Ack, wire.Error),
    wire.Publish: (wire.Ack, wire.Error),
    wire.Direct: (wire.Ack, wire.Error),
    wire.Presence: (wire.Members, wire.Error),
    wire.History: (wire.HistoryPage, wire.Error),
    wire.Delivered: (wire.Receipt, wire.Error),
    wire.Refresh: (wire.Ack, wire.Error),
    wire.Ping: (wire.Pong, wire.Error),
    wire.Resume: (wire.Welcome,),
}
"""The answers to each request of a client."""

UNASKED: tuple[type[Struct], ...] = (
    wire.Welcome,
    Message,
    wire.Subscribed,
    wire.Unsubscribed,
    wire.PositionNotice,
    wire.Gap,
    wire.PresenceChanged,
    wire.Ack,
    wire.Error,
)
"""What the server sends without a request, or later than the answer to it."""

UNTYPED = "Untyped"
"""The name of a message without a `type`, which is broadcast as it is."""

ABOUT = """The protocol between clients and the hub of a wsd cluster: JSON text over a WebSocket.

The first message of the server is `welcome`. A client that connects with `resume=1` sends `resume` before that.
A request may have an `id`, which its answer carries, too. A request without one gets no ack, but it does get errors."""

NEVER_SENT = (CloseCode.NO_STATUS, CloseCode.ABNORMAL)

CLOSES = """The ends of a connection, by close code.

Clients come back after 4000 to 4499, and stay away after 4500 to 4999. The application may have codes of its own."""


class Query(Struct):
    """The query parameters of the handshake."""

    user_id: Annotated[str, Meta(description="Who the client is, where clients are not authenticated.")] = ""
    username: Annotated[str, Meta(description="The name of the user for people. By default the user id.")] = ""
    token: Annotated[str, Meta(description="A JSON Web Token, for clients that can send it in no other way.")] = ""
    resume: Annotated[str, Meta(description="`1`: the client sends `resume` as its first message.")] = ""
    session: Annotated[str, Meta(description="The token of the session to resume. Better in `resume`.")] = ""


class Headers(Struct, rename={"authorization": "Authorization", "subprotocol": "Sec-WebSocket-Protocol"}):
    """The headers of the handshake."""

    authorization: Annotated[str, Meta(description="`Bearer` and a JSON Web Token.")] = ""
    subprotocol: Annotated[str, Meta(description="`wsd.bearer` and a JSON Web Token, for browsers.")] = ""


@cache
def description() -> bytes:
    """Return the document as JSON. It is made once, which takes a tenth of a second."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """Return the document."""
    kinds = list(dict.fromkeys([*REPLIES, *UNASKED, *(kind for replies in REPLIES.values() for kind in replies)]))
    (query, headers, *_), components = schemas([Query, Headers, *kinds])
    # Bindings have their schemas in place, since tools do not follow references there.
    binding = {
        "method": "GET",
        "query": components.pop(query["$ref"].rpartition("/")[2]),
        "headers": components.pop(headers["$ref"].rpartition("/")[2]),
        "bindingVersion": "0.1.0",
    }
    components[UNTYPED] = {
        "type": "object",
        "description": "Any object without a `type`: the object itself is broadcast.",
        "not": {"required": ["type"]},
    }
    names = [kind.__name__ for kind in kinds] + [UNTYPED]
    return {
        "asyncapi": "3.0.0",
        "info": information("wsd hub", ABOUT),
        "defaultContentType": "application/json",
        "channels": {
            "hub": {
                "address": "/ws",
                "description": f"{CLOSES}\n\n{_close_table()}",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
                "bindings": {"ws": binding},
                "x-close-codes": {str(int(code)): words for code, words in close_codes().items()},
            }
        },
        "operations": _operations(),
        "components": {
            "schemas": components,
            "messages": {name: _message(name, components[name]) for name in names},
        },
    }


def close_codes() -> dict[CloseCode, str]:
    """Return what each code of a close frame says."""
    found = {}
    for code in CloseCode:
        if code in CLEAN_CODES:
            found[code] = "the client leaves, and its session ends"
        elif code not in NEVER_SENT:
            found[code] = MEANINGS[code].words
    return found


def _close_table() -> str:
    rows = [f"| {int(code)} | {words} |" for code, words in close_codes().items()]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": name,
        "summary": schema["description"].partition("\n")[0],
        "payload": {"$ref": f"#/components/schemas/{name}"},
    }
    if "id" in schema.get("properties", {}):
        message["correlationId"] = {"location": "$message.payload#/id"}
    return message


def _operations() -> dict[str, Any]:
    hub = {"$ref": "#/channels/hub"}
    operations: dict[str, Any] = {}
    for request, replies in REPLIES.items():
        operations[str(request.__struct_config__.tag)] = {
            "action": "receive",
            "channel": hub,
            "summary": inspect.cleandoc(request.__doc__ or "").partition("\n")[0],
            "messages": _in_channel([request]),
            "reply": {"channel": hub, "messages": _in_channel(replies)},
        }
    operations[UNTYPED.lower()] = {
        "action": "receive",
        "channel": hub,
        "summary": "A message to all clients.",
        "messages": [{"$ref": f"#/channels/hub/messages/{UNTYPED}"}],
        "reply": {"channel": hub, "messages": _in_channel([wire.Error])},
    }
    operations["notify"] = {
        "action": "send",
        "channel": hub,
        "summary": "What the server sends without a request, or later than the answer to it.",
        "messages": _in_channel(UNASKED),
    }
    return operations


def _in_channel(kinds: list[type[Struct]] | tuple[type[Struct], ...]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/hub/messages/{kind.__name__}"} for kind in kinds]
