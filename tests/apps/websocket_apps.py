"""ASGI applications for tests of the WebSocket protocol, and a uvicorn that serves them: `python -m` with options."""

import argparse
import asyncio
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from starlette.types import Receive, Scope, Send

from wsd.worker.server.http_protocol import http_protocol
from wsd.worker.server.request_parser import MAX_HEAD_BYTES

_ends: dict[str, Any] = {}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Do what the path says (see BEHAVIOURS), or echo."""
    if scope["type"] == "http":
        query = parse_qs(scope["query_string"].decode())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(_ends.get(query["name"][0])).encode()})
        return
    assert scope["type"] == "websocket"
    await receive()
    behaviour = BEHAVIOURS.get(scope["path"], echo)
    await behaviour(scope, receive, send)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    wanted = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": "b" if "b" in wanted else None})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        await send({"type": "websocket.send", **({"bytes": message["bytes"]} if text is None else {"text": text})})
    _ends[scope["query_string"].decode()] = message["code"]


async def ping_pong(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    await receive()


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    raise ArithmeticError("as it should")


async def raises_before(scope: Scope, receive: Receive, send: Send) -> None:
    raise ArithmeticError("as it should")


async def closes(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-pot", b"tea")]})
    await send({"type": "websocket.http.response.body", "body": b"short and ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"stout"})


async def floods(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 10,000 messages of 10 KB, at the client's pace."""
    await send({"type": "websocket.accept"})
    for number in range(10_000):
        await send({"type": "websocket.send", "text": f"{number:010}" + "x" * 10_000})
    await send({"type": "websocket.close", "code": 3000})


async def never_receives(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    await asyncio.sleep(60)


async def subprotocols(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept", "headers": [(b"x-offered", ",".join(scope["subprotocols"]).encode())]})
    await receive()


SURROGATE = "\ud83d"

UNSENDABLE: dict[str, dict[str, Any]] = {
    "close-surrogate": {"type": "websocket.close", "code": 1008, "reason": SURROGATE},
    "close-bytes": {"type": "websocket.close", "code": 1008, "reason": b"bytes"},
    "close-too-large": {"type": "websocket.close", "code": 70_000},
    "close-negative": {"type": "websocket.close", "code": -1},
    "close-zero": {"type": "websocket.close", "code": 0},
    "close-no-status": {"type": "websocket.close", "code": 1005},
    "close-abnormal": {"type": "websocket.close", "code": 1006},
    "close-tls": {"type": "websocket.close", "code": 1015},
    "close-unassigned": {"type": "websocket.close", "code": 2999},
    "close-beyond": {"type": "websocket.close", "code": 5000},
    "close-text": {"type": "websocket.close", "code": "1000"},
    "close-float": {"type": "websocket.close", "code": 1000.5},
    "send-surrogate": {"type": "websocket.send", "text": SURROGATE},
    "send-number": {"type": "websocket.send", "text": 1},
    "send-text-as-bytes": {"type": "websocket.send", "bytes": "text"},
    "send-list": {"type": "websocket.send", "bytes": [1, 2]},
}
"""Messages that no application can send to a client."""

UNACCEPTABLE: dict[str, dict[str, Any]] = {
    "subprotocol-line": {"type": "websocket.accept", "subprotocol": "a\r\nX-Evil: 1"},
    "subprotocol-surrogate": {"type": "websocket.accept", "subprotocol": SURROGATE},
    "subprotocol-number": {"type": "websocket.accept", "subprotocol": 1},
    "value-line": {"type": "websocket.accept", "headers": [(b"x", b"a\r\nX-Evil: 1")]},
    "value-nul": {"type": "websocket.accept", "headers": [(b"x", b"a\0")]},
    "name-line": {"type": "websocket.accept", "headers": [(b"x: 1\r\nx-evil", b"1")]},
    "name-empty": {"type": "websocket.accept", "headers": [(b"", b"1")]},
    "texts": {"type": "websocket.accept", "headers": [("x", "1")]},
    "no-pairs": {"type": "websocket.accept", "headers": [b"x"]},
    "response-line": {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"a\nX-Evil: 1")]},
    "response-texts": {"type": "websocket.http.response.start", "status": 401, "headers": [("x", "1")]},
    "response-status": {"type": "websocket.http.response.start", "status": 42},
}
"""Messages with which no handshake can be answered."""


async def says_the_unsendable(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    await send(UNSENDABLE[scope["query_string"].decode()])
    await receive()


async def survives_the_unsendable(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    try:
        await send(UNSENDABLE[scope["query_string"].decode()])
    except (ValueError, TypeError, RuntimeError):
        await send({"type": "websocket.send", "text": "refused"})
    await receive()
    await send({"type": "websocket.close", "code": 4999, "reason": "\N{SNOWMAN}" * 100})


async def answers_the_unacceptable(scope: Scope, receive: Receive, send: Send) -> None:
    await send(UNACCEPTABLE[scope["query_string"].decode()])


async def survives_the_unacceptable(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await send(UNACCEPTABLE[scope["query_string"].decode()])
    except (ValueError, TypeError, RuntimeError, AttributeError):
        await send({"type": "websocket.accept", "headers": [(b"x-refused", b"yes")]})
    await echo_what_is_bytes_like(scope, receive, send)


async def echo_what_is_bytes_like(scope: Scope, receive: Receive, send: Send) -> None:
    for kind in (bytes, bytearray, memoryview):
        data = kind(b"abc")
        await send({"type": "websocket.send", "bytes": data})
        if isinstance(data, bytearray):
            data[:] = b"xyz"
    await send({"type": "websocket.send", "text": None, "bytes": None})
    await send({"type": "websocket.close", "code": None, "reason": None})


BEHAVIOURS = {
    "/unsendable": says_the_unsendable,
    "/unsendable-caught": survives_the_unsendable,
    "/unacceptable": answers_the_unacceptable,
    "/unacceptable-caught": survives_the_unacceptable,
    "/returns": returns,
    "/raises": raises,
    "/raises-before": raises_before,
    "/closes": closes,
    "/answers": answers,
    "/floods": floods,
    "/never-receives": never_receives,
    "/subprotocols": subprotocols,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--http", default="wsd")
    parser.add_argument("--max-size", type=int, default=16 * 1024 * 1024)
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--ping-interval", type=float, default=0)
    parser.add_argument("--ping-timeout", type=float, default=0.3)
    options = parser.parse_args()
    uvicorn.run(
        app,
        port=options.port,
        ws="wsd.worker.server.websocket_protocol:FanoutProtocol",
        http=http_protocol(10.0, MAX_HEAD_BYTES) if options.http == "wsd" else options.http,
        ws_max_size=options.max_size,
        ws_per_message_deflate=options.deflate,
        ws_ping_interval=options.ping_interval,
        ws_ping_timeout=options.ping_timeout,
        lifespan="off",
        log_level="warning",
    )


if __name__ == "__main__":
    main()
