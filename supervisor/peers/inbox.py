"""Requests of other nodes to this supervisor: they are taken from Redis, checked, carried out and answered."""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from redis.asyncio import Redis

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.operations import Operation, Progress
from wsd.supervisor.errors import CommandError
from wsd.supervisor.monitoring.redis_client import open_redis
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError, redis_errors
from wsd.supervisor.nodes.signing import Gatekeeper, NodeRequest, RefusedRequestError, sign_line
from wsd.worker.contract.events import EVENT
from wsd.worker.contract.redis_keys import node_answer_key, node_inbox_key

logger = logging.getLogger(__name__)

WAIT_SECONDS = 1
"""How long Redis waits for an item of a list before it answers that there is none."""

RETRY_SECONDS = 1.0
"""The pause before Redis is asked again after a failure."""

ALIVE_SECONDS = 5.0
"""How often an answer has a line while an operation says nothing, so that the sender knows that it goes on."""

KEPT_SECONDS = 60
"""How long requests and answers that nobody reads stay in Redis."""

REFUSALS_LOGGED_SECONDS = 60.0
"""The least time between two log records about refused requests, which anybody with access to Redis can send."""

Begin = Callable[[str, bytes], Operation]
"""A function that begins an action with a body. It raises CommandError, or MsgspecError for a wrong body."""


def open_waiting_redis(cluster: Cluster) -> Redis:
    """Make a client for commands that wait up to WAIT_SECONDS for an item of a list."""
    settings, watch = cluster.config.redis, cluster.redis_watch
    return open_redis(
        cluster.redis_url,
        watch.sentinels if watch is not None else None,
        connect_timeout=settings.connect_timeout,
        timeout=WAIT_SECONDS + settings.timeout,
    )


class Inbox:
    """The requests of other nodes, for as long as `run` runs."""

    def __init__(self, cluster: Cluster, begin: Begin) -> None:
        self._key = cluster.config.cluster.cluster_key
        self._begin = begin
        self._list = node_inbox_key(cluster.inbox)
        self._gatekeeper = Gatekeeper(self._key, cluster.loaded.node_id, cluster.inbox)
        self._redis = open_waiting_redis(cluster)
        self._refused = 0
        self._refusal_logged_at = float("-inf")

    async def run(self) -> None:
        """Take requests until cancelled. While Redis is away, none come."""
        try:
            async with asyncio.TaskGroup() as answers:
                while True:
                    try:
                        await self._take_next(answers)
                    except RedisUnusableError as exc:
                        logger.debug("no requests of other nodes: %s", exc)
                        await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._redis.aclose()

    async def _take_next(self, answers: asyncio.TaskGroup) -> None:
        """Wait for a request for up to WAIT_SECONDS, and begin what it asks for. Raises RedisUnusableError."""
        with redis_errors():
            taken = await self._redis.blpop([self._list], timeout=WAIT_SECONDS)
            if taken is None:
                return
            seconds, micros = await self._redis.time()
        try:
            request = self._gatekeeper.admit(taken[1], seconds * 1000 + micros / 1000)
        except RefusedRequestError as exc:
            self._note_refusal(exc)
        else:
            answers.create_task(self._answer(request), name=f"answer to {request.action}")

    def _note_refusal(self, reason: RefusedRequestError) -> None:
        self._refused += 1
        if time.monotonic() - self._refusal_logged_at < REFUSALS_LOGGED_SECONDS:
            return
        self._refusal_logged_at = time.monotonic()
        text = "refused a request of another node: %s (%d refused since the start)"
        logger.warning(text, reason, self._refused, extra=EVENT)

    async def _answer(self, request: NodeRequest) -> None:
        """Begin what a request asks for, and answer with the lines of its progress."""
        asked_by.set(request.asker)
        try:
            operation = self._begin(request.action, request.body.encode())
        except (CommandError, msgspec.MsgspecError, RecursionError) as exc:
            lines = [Progress(done=True, error=str(exc))]
            await self._send_all(request, lines)
            return
        await self._send_progress(request, operation)

    async def _send_all(self, request: NodeRequest, lines: list[Progress]) -> None:
        try:
            for number, line in enumerate(lines):
                await self._send(request, number, line)
        except RedisUnusableError as exc:
            logger.warning("cannot answer to %s: %s", request.asker, exc)

    async def _send_progress(self, request: NodeRequest, operation: Operation) -> None:
        """Send each line of progress, and an empty one where none has come for ALIVE_SECONDS."""
        lines = operation.follow()
        waiting: asyncio.Task[Progress] | None = None
        number = 0
        try:
            await self._send(request, number, Progress())
            while True:
                waiting = waiting or asyncio.ensure_future(anext(lines))
                await asyncio.wait({waiting}, timeout=ALIVE_SECONDS)
                line = Progress()
                if waiting.done():
                    line, waiting = waiting.result(), None
                number += 1
                await self._send(request, number, line)
                if line.done:
                    return
        except RedisUnusableError as exc:
            logger.warning("the answer to %s ends here, while %s goes on: %s", request.asker, operation.name, exc)
        finally:
            if waiting is not None:
                waiting.cancel()

    async def _send(self, request: NodeRequest, number: int, line: Progress) -> None:
        """Append a line to the answer. Raises RedisUnusableError."""
        key = node_answer_key(request.request_id)
        text = sign_line(self._key, request.request_id, number, msgspec.json.encode(line).decode())
        with redis_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.rpush(key, text)
                pipe.expire(key, KEPT_SECONDS)
                await pipe.execute()
