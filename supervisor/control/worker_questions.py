"""Requests that any worker can answer for the whole cluster. The supervisor passes them on to one."""

import http.client
import logging

import msgspec

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.counts import count
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.errors import CommandError
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

WORKER_QUESTIONS = {"sessions": "GET", "channels": "GET", "trace": "GET", "kick": "POST"}
"""The HTTP method of each request, by its name."""


async def ask_worker(cluster: Cluster, method: str, target: str, body: object = None) -> bytes:
    """Return the answer of the first worker that serves. `target` is the name of the request, with its query.

    Raises CommandError when no worker answers, or it refuses.
    """
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
            if method == "POST" and (ended := msgspec.json.decode(answer)["sessions"]):
                text = "%s ends %s, asked for by %s"
                logger.info(text, target, count(len(ended), "session"), asked_by.get(), extra=EVENT)
            return answer
    raise CommandError("no worker serves")
