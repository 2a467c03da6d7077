"""Configures logging as applications do: LOGGING names the way, and LOGGING_AT the time, `import` or `startup`."""

import logging
import logging.config
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


class Intercept(logging.Handler):
    """Takes the records of all loggers, as applications do that log with a library of their own."""

    def emit(self, record: logging.LogRecord) -> None:
        print("intercepted", record.name, record.levelname, record.getMessage(), file=sys.stderr)


def dict_config(**more: Any) -> None:
    """Configure logging with a handler, `h`, that has a format of the application's own."""
    logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"f": {"format": "own %(name)s %(message)s"}},
            "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
            **more,
        }
    )


def nothing() -> None: ...


def root_without_level() -> None:
    dict_config(root={"handlers": ["h"]}, disable_existing_loggers=False)


def one_logger() -> None:
    dict_config(loggers={"mine": {"handlers": ["h"], "level": "INFO"}})


def loggers_of_wsd() -> None:
    wsd = {"wsd": {"handlers": [], "level": "CRITICAL"}, "wsd.worker": {"propagate": False}}
    dict_config(root={"handlers": ["h"], "level": "INFO"}, loggers=wsd)


def basic_config() -> None:
    logging.basicConfig(format="basic %(message)s", level=logging.DEBUG, force=True)


def basic_config_without_level() -> None:
    logging.basicConfig(format="basic %(message)s")


def disabled() -> None:
    logging.disable(logging.CRITICAL)


def all_intercepted() -> None:
    logging.root.handlers = [Intercept()]
    for name in list(logging.root.manager.loggerDict):
        found = logging.getLogger(name)
        found.handlers, found.propagate, found.disabled = [], False, True


CONFIGURATIONS: dict[str, Callable[[], None]] = {
    configuration.__name__: configuration
    for configuration in (
        nothing,
        root_without_level,
        one_logger,
        loggers_of_wsd,
        basic_config,
        basic_config_without_level,
        disabled,
        all_intercepted,
    )
}
configure = CONFIGURATIONS[os.environ["LOGGING"]]
configured_at = os.environ["LOGGING_AT"]


def log_something() -> None:
    for name in ("", "mine", "mine.part"):
        logger = logging.getLogger(name)
        logger.info("said at info")
        logger.warning("said at warning")


async def log_and_hold(websocket: WebSocket) -> None:
    await websocket.accept()
    log_something()
    await websocket.send_text("logged")
    async for _ in websocket.iter_text():
        pass


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    if configured_at == "startup":
        configure()
    yield


if configured_at == "import":
    configure()
app = Starlette(routes=[WebSocketRoute("/ws", log_and_hold)], lifespan=lifespan)
