"""gunicorn with uvicorn's workers, where wsd's own supervisor cannot be used.

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
# Each worker connects to Redis by itself, after it was forked.
preload_app = False

_named = os.environ.get("WORKER_ID", "")


def post_fork(server: Any, worker: Any) -> None:
    """All workers inherit one environment, and no two may have one WORKER_ID."""
    if _named:
        os.environ["WORKER_ID"] = f"{_named}-{worker.pid}"
