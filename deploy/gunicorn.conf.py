"""A configuration of gunicorn with uvicorn's workers, for hosts where wsd's own supervisor cannot be used.

    pip install gunicorn uvicorn-worker
    REDIS_URL=redis://127.0.0.1 gunicorn -c deploy/gunicorn.conf.py wsd.worker.app:app

The workers form one cluster through the Redis of REDIS_URL. BIND is the address to listen on (127.0.0.1:8000), and
WORKERS is the number of workers (4). WORKER_ID, if it is set, is the first part of the name of each worker.
"""

import os
from typing import Any

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WORKERS", "4"))
worker_class = "uvicorn_worker.UvicornWorker"
timeout = 30
graceful_timeout = 30
# Processes must not share a connection to Redis. Without a preload, each worker opens its own after the fork.
preload_app = False

_named = os.environ.get("WORKER_ID", "")


def post_fork(server: Any, worker: Any) -> None:
    """Give each worker its own WORKER_ID, since all workers inherit the same environment."""
    if _named:
        os.environ["WORKER_ID"] = f"{_named}-{worker.pid}"
