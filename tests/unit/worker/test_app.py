"""What `--app module:attribute` may name: an application of ASGI 3 or 2, or a factory of one."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from wsd.worker.app import BadAppError, load_application

NUMBERS = itertools.count()

SOURCE = """
async def app(scope, receive, send):
    await send({"type": "served"})

def create_app():
    return app

def with_defaults(settings=None, *, debug=False):
    return app

class Factory:
    async def __call__(self, scope, receive, send):
        await send({"type": "served"})

def decorated(*args, **kwargs):
    return app(*args, **kwargs)

class Asgi2:
    def __init__(self, scope):
        pass

    async def __call__(self, receive, send):
        await send({"type": "served"})

def asgi2(scope):
    async def instance(receive, send):
        await send({"type": "served"})
    return instance

class Awaitable:
    def __init__(self, scope, receive, send):
        self.send = send

    def __await__(self):
        return self.send({"type": "served"}).__await__()

class Holder:
    app = app
    create = staticmethod(create_app)

async def late():
    return app

def failing():
    raise RuntimeError("no settings")

def nothing():
    pass

def view(request):
    pass

class View:
    def __init__(self, scope, receive, send):
        pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"mine_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


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
def test_what_uvicorn_serves_is_served(module: str, attribute: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is received")

    async def send(message: Any) -> None:
        sent.append(message)

    async def serve() -> None:
        await load_application(f"{module}:{attribute}")({"type": "http"}, receive, send)

    asyncio.run(serve())
    assert sent == [{"type": "served"}]


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        ("late", "is not an ASGI application: a factory must not be a coroutine function"),
        ("failing", "raised while it was called without arguments: RuntimeError('no settings')"),
        ("nothing", "is not an ASGI application: it is a NoneType, which cannot be called"),
        ("view", "is not an ASGI application: it must take (scope, receive, send), not (request)"),
        ("View", "is not an ASGI application: it is the class View, whose instances would have to be awaitable"),
    ],
)
def test_what_is_no_application_is_refused_with_the_reason(module: str, attribute: str, problem: str) -> None:
    with pytest.raises(BadAppError) as raised:
        load_application(f"{module}:{attribute}")
    assert str(raised.value) == f'app "{module}:{attribute}" {problem}'
