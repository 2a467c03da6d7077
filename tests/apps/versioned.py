"""The hub, and the version of the application. Tests append a line to their copy, as a deployment changes code."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from wsd.worker.endpoints import hub

VERSION: object = "one"


async def version(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(VERSION))


app = Starlette(routes=[Route("/", version), WebSocketRoute("/ws", hub.endpoint)])
