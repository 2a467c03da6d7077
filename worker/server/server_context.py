"""The parts that all connections of one uvicorn server share."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from wsd.worker.server.keepalive import Keepalive

_contexts: "WeakKeyDictionary[ServerState, ServerContext]" = WeakKeyDictionary()


class ServerContext:
    """The configuration, the state and the keepalive timer of a server."""

    def __init__(self, config: Config, state: ServerState, app_state: dict[str, Any]) -> None:
        self.config = config
        self.state = state
        self.app_state = app_state
        self.keepalive = Keepalive(config.ws_ping_interval, config.ws_ping_timeout)

    @classmethod
    def of(cls, config: Config, state: ServerState, app_state: dict[str, Any]) -> "ServerContext":
        """Return the context of a server, which is made for the server's first connection.

        uvicorn constructs protocols itself, so they have nothing in common but these arguments.
        """
        context = _contexts.get(state)
        if context is None:
            context = _contexts[state] = cls(config, state, app_state)
        return context

    def run(self, call: Callable[[ASGIApp], Coroutine[Any, Any, None]]) -> None:
        """Call the application in a task that the server waits for when it stops."""
        task = asyncio.get_running_loop().create_task(call(self.config.loaded_app))
        self.state.tasks.add(task)
        task.add_done_callback(self.state.tasks.discard)
