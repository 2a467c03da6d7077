"""The worker's own loggers, which no logging configuration of an application reaches, and their handlers.

Applications call `logging.config.dictConfig`, `basicConfig(force=True)` or `logging.disable`, or take over all loggers.
That acts on the one manager of the logging module. The worker's loggers have a manager of their own.
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
    """Return the worker's logger of a name, usually that of a module."""
    return _manager.getLogger(name)


class ToLogging(logging.Handler):
    """Hands the records of the worker to the logger of the same name in the logging module.

    It is for workers that run under another server: there the configuration of the application or of the server counts.
    """

    def emit(self, record: logging.LogRecord) -> None:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


_root.addHandler(ToLogging())


class OwnLevel(int):
    """The level that `log_as` gives to the root of the logging module. Its type tells it from the level of others."""


def log_as(env: WorkerEnv) -> None:
    """Log as the settings say, in a process that is a worker and nothing else."""
    log_as_process(f"worker-{env.slot}", env.log_level, env.log_format, env.events_path, worker_id=env.worker_id)


def log_as_process(source: str, level_name: str, log_format: str, events_path: str, **constant: str) -> None:
    """Log to stderr, and the events to the node's file of events, in a process of the cluster.

    `source` names the process in the events. `constant` are fields of each line in JSON.

    If the application configures no logging, its lines have the worker's format, too. If it does, its configuration
    alone counts: the root of the logging module gets no handler that the application would have to remove.
    """
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        JsonFormatter(**constant)
        if log_format == "json"
        else LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    log_to(lines, level_name)
    if events_path:
        _root.addHandler(EventHandler(events_path, source))


def log_to(handler: logging.Handler, level_name: str) -> None:
    """Give the worker's records to a handler, and those of an application that configures no logging, too."""
    level = logging.getLevelNamesMapping()[level_name.upper()]
    _root.setLevel(level)
    _root.handlers = [handler]
    logging.root.setLevel(OwnLevel(level))
    logging.lastResort = handler


def yield_to_application() -> None:
    """Give the root logger its default level back, if the application has set handlers and no level."""
    if logging.root.handlers and isinstance(logging.root.level, OwnLevel):
        logging.root.setLevel(logging.WARNING)
