"""Objects that `--app module:attribute` may name, and objects that it may not."""

from collections.abc import Awaitable as AwaitableOf
from collections.abc import Callable, Generator
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "served"})


def create_app() -> ASGIApp:
    return app


def with_defaults(settings: object = None, *, debug: bool = False) -> ASGIApp:
    return app


class Factory:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "served"})


def decorated(*args: Any, **kwargs: Any) -> AwaitableOf[None]:
    return app(*args, **kwargs)


class Asgi2:
    def __init__(self, scope: Scope) -> None:
        pass

    async def __call__(self, receive: Receive, send: Send) -> None:
        await send({"type": "served"})


def asgi2(scope: Scope) -> Callable[[Receive, Send], AwaitableOf[None]]:
    async def instance(receive: Receive, send: Send) -> None:
        await send({"type": "served"})

    return instance


class Awaitable:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.send = send

    def __await__(self) -> Generator[Any, None, None]:
        return self.send({"type": "served"}).__await__()


class Holder:
    app = app
    create = staticmethod(create_app)


async def late() -> ASGIApp:
    return app


def failing() -> ASGIApp:
    raise RuntimeError("no settings")


def nothing() -> None:
    pass


def view(request: object) -> None:
    pass


class View:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass
