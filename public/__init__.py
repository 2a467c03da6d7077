"""wsd: a WebSocket cluster on one machine or several, started by one command.

Everything that an application imports is here. The names are loaded when they are first used, so that `import wsd` and
the `wsd` command load neither Starlette nor redis.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsd.worker.compat import ConnectionManager, get_websocket_manager
    from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
    from wsd.worker.security.authentication import Identity
    from wsd.worker.websocket_middleware import WebSocketMiddleware

    __version__: str

__all__ = [
    "ConnectionManager",
    "DistributedWebSocketManager",
    "Identity",
    "WebSocketMiddleware",
    "__version__",
    "get_websocket_manager",
]

_MODULES = {
    "ConnectionManager": "wsd.worker.compat",
    "DistributedWebSocketManager": "wsd.worker.manager.websocket_manager",
    "Identity": "wsd.worker.security.authentication",
    "WebSocketMiddleware": "wsd.worker.websocket_middleware",
    "get_websocket_manager": "wsd.worker.compat",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("wsd-cluster")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
