"""Run one worker process: `python -m wsd.worker`. Its settings are in the environment (WorkerEnv)."""

import gc
import importlib
import logging
import os
import sys
from pathlib import Path

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from wsd.worker.app import BadAppError, load_application
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.lifecycle import EXIT_BAD_APP, EXIT_STARTUP_FAILED
from wsd.worker.endpoints import hub
from wsd.worker.logs import log_as, yield_to_application
from wsd.worker.redis_client import import_redis
from wsd.worker.security.json_web_tokens import settings_for_tokens
from wsd.worker.server.draining_server import WorkerServer, bind_shared, bind_unix
from wsd.worker.server.http_protocol import http_protocol
from wsd.worker.server.lifespan import startup_failure_line
from wsd.worker.server.websocket_protocol import fanout_protocol
from wsd.worker.websocket_middleware import WebSocketMiddleware

KEEP_ALIVE_SECONDS = 75
"""Longer than nginx keeps idle connections to the worker, so that nginx never uses one that is just being closed."""

LAST_SECONDS = 1
"""How long uvicorn waits, after a drain, for requests that are still under way."""


def _import_what_comes_later(env: WorkerEnv) -> None:
    """Import now what is imported when it is needed. A file of the application might be taken for it then."""
    if env.redis_url and env.distributed:
        import_redis()
    if settings_for_tokens(env).configured:
        importlib.import_module("jwt")


def main() -> int:
    """Serve until told to stop. Return the exit code."""
    env = WorkerEnv.from_env(os.environ)
    # Each printed line is in the log at once. The log is UTF-8, whatever the locale is.
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    os.environ.setdefault("PYTHONUNBUFFERED", "1")  # in processes that the application starts, too
    log_as(env)
    # uvicorn logs each handshake at level info, with its query string and the secrets in it.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))
    _import_what_comes_later(env)
    # The real paths, not a symlink to the current release: later imports come from the same release as the first.
    sys.path[:0] = dict.fromkeys([str(Path(env.app_directory).resolve()), str(Path.cwd())])
    try:
        inner = load_application(env.app) if env.app else hub.app
    except BadAppError as exc:
        return _fail(str(exc), EXIT_BAD_APP)
    yield_to_application()
    try:
        app = WebSocketMiddleware(inner, env)
    except ValueError as exc:
        return _fail(str(exc), EXIT_STARTUP_FAILED)
    try:
        sockets = [bind_unix(Path(env.bind_path))] if env.bind_path else []
        if env.listen:
            host, _, port = env.listen.rpartition(":")
            sockets.append(bind_shared(host.strip("[]"), int(port)))
    except OSError as exc:
        return _fail(f"cannot listen on {env.bind_path} {env.listen}: {exc}", EXIT_STARTUP_FAILED)
    config = uvicorn.Config(
        app,
        http=http_protocol(env.handshake_timeout, env.max_head_bytes),
        ws=fanout_protocol(
            app.worker.parts.outlet,
            announces=bool(env.app or env.authenticate or env.authorize),
        )
        if env.protocol == "wsd"
        else WebSocketsSansIOProtocol,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Behind nginx every peer is nginx, which sets these headers itself. Without nginx no peer is trusted.
        proxy_headers=not env.listen,
        forwarded_allow_ips="*",
        ws_max_size=env.max_message_bytes,
        ws_ping_interval=env.ping_interval,
        ws_ping_timeout=env.ping_timeout,
        ws_per_message_deflate=env.compression,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    # The objects that exist by now will stay. The garbage collector need not visit them again and again.
    gc.collect()
    gc.freeze()
    paths = [Path(path) for path in (env.bind_path, env.public_path) if path]
    server = WorkerServer(
        config,
        drain_seconds=env.drain_seconds,
        waits=env.drain == "wait",
        on_drain=app.worker.drain,
        paths=paths,
    )
    try:
        server.run(sockets=sockets)
    except SystemExit:
        if app.startup_failure is None:
            raise
        reason = startup_failure_line(app.startup_failure)
        return _fail(f"the application failed to start: {reason}", EXIT_STARTUP_FAILED)
    return 0


def _fail(reason: str, code: int) -> int:
    """Say on stderr why the worker cannot run. Return the exit code."""
    print(reason, file=sys.stderr, flush=True)  # noqa: T201 - the supervisor shows a worker's last line
    return code


if __name__ == "__main__":
    sys.exit(main())
