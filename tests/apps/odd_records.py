"""Serves the files of the dashboard, with records as no supervisor sends them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from wsd.supervisor.control.access import HEADERS
from wsd.supervisor.control.dashboard import FILES
from wsd.templates import template_text

NAMES = ["", "<b>bold</b>", "__proto__", "constructor", "x" * 5000, "\u202eright to left", "a b\nc", "1", "'\"&<>"]
NUMBERS: list[Any] = [None, 0, -1, 1e300, 1.7e308, -1e300, 1e-300, 10**400, "12", [], {}, True]
ODD: list[Any] = [None, 0, "", "text", [], [None], [[]], {}, True, 1e300, {"length": 3}]

PROCESS: dict[str, Any] = {
    "name": "worker-1",
    "state": "ready",
    "slot": 1,
    "restarts": 0,
    "connections": 3,
    "uptime_seconds": 5,
}
STATUS: dict[str, Any] = {
    "state": "healthy",
    "problems": [],
    "warnings": [],
    "operation": None,
    "node_id": "n",
    "url": "http://127.0.0.1/",
    "supervisor": {"name": "supervisor", "state": "running", "restarts": 0},
    "workers": [PROCESS],
    "nginx": None,
    "valkey": None,
    "nodes": [{"node_id": "n", "workers": 1, "connections": 3}],
}
EVENT = {"at": 1.0, "source": "supervisor", "level": "info", "text": "up"}
FIGURES = ("connections", "messages_in_per_second", "messages_out_per_second", "cpu_percent", "rss_bytes", "restarts")
TIMES = ("uptime_seconds", "loop_lag_seconds", "slot")


def ticks() -> list[Any]:
    """Return what the stream sends, in this order. The last status is a usual one."""
    odd: list[Any] = [{"status": each, "events": each} for each in ODD]
    odd += ODD
    odd += [{"status": {**STATUS, key: each}, "events": []} for key in STATUS for each in ODD]
    odd += [{"status": {k: v for k, v in STATUS.items() if k != key}} for key in STATUS]
    odd += [{"status": {**STATUS, "workers": [{**PROCESS, key: each}]}} for key in PROCESS for each in ODD]
    for value in NUMBERS:
        worker = {**PROCESS, **dict.fromkeys((*FIGURES, *TIMES), value)}
        node = {"node_id": "n", "workers": value, "connections": value}
        status = {**STATUS, "workers": [worker, {**worker, "name": "worker-2"}], "nginx": worker, "nodes": [node]}
        odd.append({"status": status, "events": [{**EVENT, "at": value}]})
    for name in NAMES:
        twice = [{**PROCESS, "name": name, "state": name}] * 2
        status = {**STATUS, "state": name, "node_id": name, "url": name, "problems": [name], "operation": name}
        odd.append({"status": {**status, "workers": twice, "nodes": [{"node_id": name}] * 2}})
        odd.append({"status": STATUS, "events": [{**EVENT, "source": name, "text": name, "level": name}]})
    return [*odd, {"status": STATUS, "events": [{**EVENT, "text": "this is the last"}]}]


async def stream(request: Request) -> Response:
    if "stream" in ANSWERS:
        return ANSWERS["stream"]

    async def sent() -> AsyncIterator[bytes]:
        for tick in ticks():
            yield b"data: " + json.dumps(tick).encode() + b"\n\n"
        while True:
            await asyncio.sleep(1)
            yield b"data: " + json.dumps({"status": STATUS, "events": []}).encode() + b"\n\n"

    return StreamingResponse(sent(), media_type="text/event-stream", headers=HEADERS)


async def channels(request: Request) -> Response:
    odd = [*ODD, *({"name": name, "connections": number} for name in [*NAMES, *ODD] for number in NUMBERS[:5])]
    return JSONResponse({"channels": odd})


async def sessions(request: Request) -> Response:
    odd = [{"session_id": f"{at}", "user_id": name, "state": name, "channels": ODD} for at, name in enumerate(NAMES)]
    odd += [{"session_id": f"o{at}", "user_id": each, "channels": each} for at, each in enumerate(ODD)]
    return JSONResponse({"sessions": [*ODD, *odd, {"session_id": "last", "user_id": "the last"}], "total": None})


async def trace(request: Request) -> Response:
    events = [*ODD, *({"at": number, "what": number, "worker_id": number} for number in NUMBERS[:7])]
    return JSONResponse({"sessions": [{"session_id": "x", "user_id": "<i>", "events": events}]})


ANSWERS: dict[str, Response] = {}
"""The answers that a test has put in the place of the usual ones, by the name of the request."""


async def put_answer(request: Request) -> Response:
    answer = await request.json()
    if answer["status"] is None:
        del ANSWERS[request.path_params["name"]]
        return Response("")
    ANSWERS[request.path_params["name"]] = Response(answer["body"], answer["status"], media_type=answer["kind"])
    return Response("")


async def ask(request: Request) -> Response:
    name = request.path_params["name"]
    return ANSWERS[name] if name in ANSWERS else await USUAL[name](request)


USUAL = {"channels": channels, "sessions": sessions, "trace": trace}


async def file(request: Request) -> Response:
    name = request.scope["path"].rpartition("/")[2]
    return Response(template_text(name or "dashboard.html"), headers=HEADERS, media_type=FILES.get(name, "text/html"))


async def health(request: Request) -> Response:
    return Response("")


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/", file),
        Route("/stream", stream),
        Route("/api/{name}", ask, methods=["GET", "POST"]),
        Route("/answers/{name}", put_answer, methods=["PUT"]),
        *(Route(f"/{name}", file) for name in FILES),
    ]
)
