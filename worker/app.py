"""Loading the application that a worker serves: the user's, imported by name, or the built-in hub.

`uvicorn wsd.worker.app:app` serves the hub without a supervisor.
"""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from inspect import Parameter
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn.middleware.asgi2 import ASGI2Middleware

from wsd.worker.errors import WorkerError


class BadAppError(WorkerError):
    """The application named by `--app` cannot be served. The text says why, on one line."""


def load_application(spec: str, on_error: Callable[[BaseException], object] = traceback.print_exception) -> ASGIApp:
    """Import an ASGI application by `module:attribute`, or a factory of one, which is called without arguments.

    An application of ASGI 2 (`app(scope)(receive, send)`) is wrapped, as uvicorn does it. `on_error` is called with
    what the application's code raises while it is imported or called. By default its traceback goes to stderr.

    Raises BadAppError.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise BadAppError(f'app "{spec}" must have the form module:attribute')
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            on_error(exc)  # the module exists, but something that it imports does not
        raise BadAppError(f'app "{spec}" cannot be imported from {sys.path[0]}: {exc}') from None
    except BaseException as exc:  # noqa: BLE001 - the application's code may raise anything, SystemExit too
        on_error(exc)
        raise BadAppError(f'app "{spec}" raised while it was imported: {_described(exc)}') from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise BadAppError(f'app "{spec}": {module_name} has no attribute "{attribute}"')
        found = getattr(found, name)
    if _is_factory(found):
        try:
            found = found()
        except BaseException as exc:  # noqa: BLE001 - as above
            on_error(exc)
            raise BadAppError(f'app "{spec}" raised while it was called without arguments: {_described(exc)}') from None
        if inspect.iscoroutine(found):
            found.close()
            raise BadAppError(f'app "{spec}" is not an ASGI application: a factory must not be a coroutine function')
    if _is_asgi2(found):
        found = ASGI2Middleware(found)
    if problem := _asgi_problem(found):
        raise BadAppError(f'app "{spec}" is not an ASGI application: {problem}')
    return cast(ASGIApp, found)


def _described(exc: BaseException) -> str:
    """Return an exception on one line. That of a SyntaxError names the file and the line."""
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _is_factory(found: object) -> bool:
    """Tell whether an object can be called without arguments. An application takes (scope, receive, send)."""
    parameters = _parameters(found)
    if parameters is None or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return False  # a decorated application shows (*args, **kwargs)
    return not any(p.default is p.empty for p in parameters)


def _is_asgi2(found: object) -> bool:
    """Tell whether an object takes (scope) alone: a function, or a class whose instances take (receive, send).

    The name of the parameter decides, so that a view such as `def index(request)` is not taken for an application.
    """
    parameters = _parameters(found)
    return parameters is not None and [p.name for p in parameters] == ["scope"]


def _parameters(found: object) -> list[Parameter] | None:
    """Return the parameters of a callable; None if it is no callable, or one in C that does not say them."""
    if not callable(found):
        return None
    try:
        return list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):
        return None


def _asgi_problem(found: object) -> str | None:
    """Say why an object is no ASGI application, or return None."""
    if not callable(found):
        return f"it is a {type(found).__name__}, which cannot be called"
    parameters = _parameters(found)
    if parameters is None:
        return None  # nothing speaks against it
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    variable = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if isinstance(found, type) and not hasattr(found, "__await__"):
        return f"it is the class {found.__name__}, whose instances would have to be awaitable"
    if len(required) > 3 or (len(positional) < 3 and not variable):
        return f"it must take (scope, receive, send), not {inspect.signature(found)}"
    return None


def __getattr__(name: str) -> Any:
    """Make `app` when it is first used. Workers of the supervisor never use it."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wsd.worker.contract.environment import WorkerEnv  # noqa: PLC0415
    from wsd.worker.endpoints import hub  # noqa: PLC0415
    from wsd.worker.websocket_middleware import WebSocketMiddleware  # noqa: PLC0415

    return WebSocketMiddleware(hub.app, WorkerEnv.from_env(os.environ))
