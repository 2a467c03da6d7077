"""The worker's own loggers, which no logging configuration of an application reaches, and what both write to.

Applications call `logging.config.dictConfig`, `basicConfig(force=True)`, `logging.disable`, or take over every logger
there is. All of that acts on the one manager of the logging module. The worker's loggers have a manager of their own.
"""

import logging
import sys

from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.events import EventHandler
from wsd.worker.contract.log_format import JsonFormatter, LineFormatter

_root = logging.RootLogger(logging.NOTSET)
_manager = logging.Manager(_root)
_manager.loggerClass = logging.Logger


def get_logger(name: str) -> logging.Logger:
    return _manager.getLogger(name)


class ToLogging(logging.Handler):
    """Hands the worker's records to the logger of the same name in the logging module.

    For workers of other servers: there the configuration of the application, or of the server, is the one that counts.
    """

    def emit(self, record: logging.LogRecord) -> None:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


_root.addHandler(ToLogging())


class OwnLevel(int):
    """The level that the logging module's root has until somebody else sets it; told apart by what it is."""


def log_as(env: WorkerEnv) -> None:
    """Log as the settings say, in a process that is nothing but a worker.

    An application that configures no logging has its lines in the worker's format, too. For one that does, its own
    configuration counts alone: the root of the logging module gets no handler that it would have to take away.
    """
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        JsonFormatter(worker_id=env.worker_id)
        if env.log_format == "json"
        else LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    level = logging.getLevelNamesMapping()[env.log_level.upper()]
    _root.setLevel(level)
    _root.handlers = [lines]
    if env.events_path:
        _root.addHandler(EventHandler(env.events_path, f"worker-{env.slot}"))
    logging.root.setLevel(OwnLevel(level))
    logging.lastResort = lines


def yield_to_application() -> None:
    """Give the root logger back its default level, where the application has set handlers and no level."""
    if logging.root.handlers and isinstance(logging.root.level, OwnLevel):
        logging.root.setLevel(logging.WARNING)
