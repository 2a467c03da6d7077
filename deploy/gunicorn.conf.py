"""A configuration of gunicorn with uvicorn's workers, for hosts where wsd's own supervisor cannot be used.

pip install gunicorn uvicorn-worker
REDIS_URL=redis://127.0.0.1 gunicorn -c deploy/gunicorn.conf.py wsd.worker.app:app
"""

import os
from typing import Any

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WORKERS", "4"))
worker_class = "uvicorn_worker.UvicornWorker"
timeout = 30
graceful_timeout = 30
# A connection to Redis must not be shared by several processes: each worker opens its own after the fork.
preload_app = False

_named = os.environ.get("WORKER_ID", "")


def post_fork(server: Any, worker: Any) -> None:
    """Give each worker its own WORKER_ID, since all workers inherit the same environment."""
    if _named:
        os.environ["WORKER_ID"] = f"{_named}-{worker.pid}"
