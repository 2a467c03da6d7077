"""Prints at import, in a request, and from helper processes that a request starts."""

import multiprocessing
import os
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

print("printed at import")


def helper() -> None:
    print("printed by a helper")
    time.sleep(60)


def start_helpers(request: Request) -> PlainTextResponse:
    print("printed in a request")
    for method in ("fork", "spawn"):
        multiprocessing.get_context(method).Process(target=helper, daemon=True).start()  # type: ignore[attr-defined]
    return PlainTextResponse(str(os.getpid()))


app = Starlette(routes=[Route("/", start_helpers)])
