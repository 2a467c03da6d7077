"""Prints Japanese, as many lines and bytes as a request asks for, and logs an error; /fail raises."""

import logging
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def say(request: Request) -> PlainTextResponse:
    print("日本語 résumé")
    sys.stdout.write("x" * int(request.query_params.get("bytes", 0)))
    for _ in range(int(request.query_params.get("lines", 0))):
        print("y" * 1000)
    logging.getLogger("chat").error("a word")
    return PlainTextResponse("said")


async def fail(request: Request) -> None:
    raise RuntimeError("on purpose")


app = Starlette(routes=[Route("/say", say), Route("/fail", fail)])
