"""Objects that `--app module:attribute` may name: an application of ASGI 3 or 2, or a factory of one."""

import asyncio
from typing import Any

import pytest

from wsd.worker.app import BadAppError, load_application

MODULE = "tests.apps.loadable"


@pytest.mark.parametrize(
    "attribute",
    [
        "app",
        "create_app",
        "with_defaults",
        "Factory",
        "decorated",
        "Asgi2",
        "asgi2",
        "Awaitable",
        "Holder.app",
        "Holder.create",
    ],
)
def test_every_kind_of_application_that_uvicorn_serves_is_served(attribute: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is received")

    async def send(message: Any) -> None:
        sent.append(message)

    async def serve() -> None:
        await load_application(f"{MODULE}:{attribute}")({"type": "http"}, receive, send)

    asyncio.run(serve())
    assert sent == [{"type": "served"}]


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        ("late", "is not an ASGI application: a factory must not be a coroutine function"),
        ("failing", "raised while it was called without arguments: RuntimeError: no settings"),
        ("nothing", "is not an ASGI application: it is a NoneType, which cannot be called"),
        ("view", "is not an ASGI application: it must take (scope, receive, send), not (request: object) -> None"),
        ("View", "is not an ASGI application: it is the class View, whose instances would have to be awaitable"),
    ],
)
def test_an_object_that_is_not_an_application_is_refused_with_the_reason(attribute: str, problem: str) -> None:
    with pytest.raises(BadAppError) as raised:
        load_application(f"{MODULE}:{attribute}")
    assert str(raised.value) == f'app "{MODULE}:{attribute}" {problem}'
