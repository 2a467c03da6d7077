"""Requests that any worker can answer for the whole cluster. The supervisor passes them on to one worker."""

import http.client
import logging

import msgspec
from starlette.requests import Request

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.counts import count
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.errors import CommandError
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

WORKER_QUESTIONS = {"sessions": "GET", "channels": "GET", "trace": "GET", "kick": "POST"}
"""The HTTP method of each request, by its name."""

ARCHIVE_QUESTIONS = {"archive": "GET", "prune-archive": "POST"}
"""The same of requests that the dashboard does not make."""


async def pass_on(cluster: Cluster, request: Request) -> bytes:
    """Return the answer of a worker to one of these requests, which the path of the request ends with.

    Raises CommandError when no worker answers, or it refuses. Raises MsgspecError for a body that is not JSON.
    """
    name = request.scope["path"].rpartition("/")[2]
    query = request.scope["query_string"].decode("latin-1")
    body = msgspec.json.decode(await request.body()) if request.method == "POST" else None
    return await _ask_worker(cluster, request.method, f"{name}?{query}" if query else name, body)


async def _ask_worker(cluster: Cluster, method: str, target: str, body: object) -> bytes:
    """Return the answer of the first worker that serves. `target` is the name of the request, with its query."""
    if not cluster.redis_url:
        raise CommandError("without Redis every worker stands alone, and none knows of the others")
    for child in cluster.workers:
        if child.slot.ready:
            try:
                status, answer = await child.service.ask(method, target, body)
            except (OSError, http.client.HTTPException) as exc:
                raise CommandError(f"{child.slot.name} does not answer: {exc!r}") from None
            if status != 200:
                raise CommandError(f"{child.slot.name} refuses: {answer.decode(errors='replace')}")
            if method == "POST" and (ended := msgspec.json.decode(answer).get("sessions")):
                text = "%s ends %s, asked for by %s"
                logger.info(text, target, count(len(ended), "session"), asked_by.get(), extra=EVENT)
            return answer
    raise CommandError("no worker serves")
