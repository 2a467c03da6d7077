"""Which application a worker serves: the user's, imported by name, or the built-in hub.

`uvicorn wsd.worker.app:app` serves the hub without a supervisor.
"""

import importlib
import inspect
import os
import traceback
from pathlib import Path
from typing import Any, cast

from starlette.types import ASGIApp


class BadAppError(Exception):
    """The application named by `--app` cannot be served; the text says why, on one line."""


def load_application(spec: str) -> ASGIApp:
    """Import `module:attribute`. The traceback of code that raises while it is imported goes to stderr.

    Raises BadAppError.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise BadAppError(f'app "{spec}" must have the form module:attribute')
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            traceback.print_exc()  # the module is there, but something that it imports is not
        raise BadAppError(f'app "{spec}" cannot be imported from {Path.cwd()}: {exc}') from None
    except BaseException as exc:  # noqa: BLE001 - whatever their code raises, SystemExit too
        traceback.print_exc()
        raise BadAppError(f'app "{spec}" raised while it was imported: {exc!r}') from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise BadAppError(f'app "{spec}": {module_name} has no attribute "{attribute}"')
        found = getattr(found, name)
    if problem := _asgi_problem(found):
        raise BadAppError(f'app "{spec}" is not an ASGI application: {problem}')
    return cast(ASGIApp, found)


def _asgi_problem(found: object) -> str | None:
    if not callable(found):
        return f"it is a {type(found).__name__}, which cannot be called"
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return None  # a callable of C code tells nothing about itself; trust it
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    variable = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if isinstance(found, type) or len(required) > 3 or (len(positional) < 3 and not variable):
        return f"it must take (scope, receive, send), not {inspect.signature(found)}"
    return None


def __getattr__(name: str) -> Any:
    """`app`, made when somebody asks for it: a worker of the supervisor never does."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wsd.worker import hub  # noqa: PLC0415
    from wsd.worker.contract import WorkerEnv  # noqa: PLC0415
    from wsd.worker.websocket_middleware import WebSocketMiddleware  # noqa: PLC0415

    return WebSocketMiddleware(hub.app, WorkerEnv.from_env(os.environ))
