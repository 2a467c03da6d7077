"""Requests of this supervisor to those of other nodes, through Redis."""

import json
import secrets
import time

import msgspec

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.operations import Progress, Say
from wsd.supervisor.errors import CommandError
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError, redis_errors
from wsd.supervisor.nodes.records import NodeRecord, SeenNode
from wsd.supervisor.nodes.signing import NodeRequest, read_line, sign
from wsd.supervisor.peers.inbox import KEPT_SECONDS, WAIT_SECONDS, open_waiting_redis
from wsd.worker.contract.redis_keys import node_answer_key, node_inbox_key

TAKEN_SECONDS = 10.0
"""How long a node may take to begin its answer."""

SILENCE_SECONDS = 20.0
"""How long an answer may pause. A node sends a line every few seconds."""

NO_KEY = "the nodes take no requests from each other: set the same cluster.cluster_key on all, see docs/nodes.md"


def demand_key(cluster: Cluster) -> None:
    """Check that this node can send requests to others. Raises CommandError."""
    if not cluster.config.cluster.cluster_key:
        raise CommandError(NO_KEY)
    watch = cluster.redis_watch
    if watch is None or watch.error is not None:
        text = watch.error.summary if watch is not None and watch.error is not None else "there is no Redis"
        raise CommandError(f"{text}, and requests to other nodes go through it")


async def read_nodes(cluster: Cluster) -> list[SeenNode]:
    """Return what Redis knows about the nodes now. Raises CommandError."""
    assert cluster.redis_watch is not None
    await cluster.redis_watch.survey()
    if not cluster.redis_watch.nodes:
        raise CommandError("Redis does not say which nodes there are; try again")
    return cluster.redis_watch.nodes


async def ask_node(cluster: Cluster, node_id: str, action: str, body: object, say: Say) -> None:
    """Let another node carry out an action, and say the lines of its progress.

    Raises CommandError when that node cannot be asked, does not answer, or does not succeed.
    """
    demand_key(cluster)
    record = _record_of(node_id, await read_nodes(cluster))
    key = cluster.config.cluster.cluster_key
    redis = open_waiting_redis(cluster)
    try:
        with redis_errors():
            seconds, micros = await redis.time()
            request = NodeRequest(
                node_id=node_id,
                inbox=record.inbox,
                action=action,
                body=json.dumps(body),
                asker=f"{asked_by.get()}, on node {cluster.loaded.node_id}",
                request_id=secrets.token_hex(16),
                time_ms=seconds * 1000 + micros // 1000,
            )
            text = sign(key, request)
            async with redis.pipeline(transaction=False) as pipe:
                pipe.rpush(node_inbox_key(record.inbox), text)
                pipe.expire(node_inbox_key(record.inbox), KEPT_SECONDS)
                await pipe.execute()
        number, gives_up_at = 0, time.monotonic() + TAKEN_SECONDS
        while True:
            with redis_errors():
                taken = await redis.blpop([node_answer_key(request.request_id)], timeout=WAIT_SECONDS)
            line = read_line(key, request.request_id, number, taken[1]) if taken is not None else None
            if line is None:
                if time.monotonic() > gives_up_at:
                    with redis_errors():  # a node that wakes up later must not begin what has failed here
                        await redis.lrem(node_inbox_key(record.inbox), 0, text)
                    raise CommandError(_silence(node_id, has_begun=number > 0))
                continue
            number, gives_up_at = number + 1, time.monotonic() + SILENCE_SECONDS
            progress = msgspec.json.decode(line, type=Progress)
            if progress.text:
                say(progress.text)
            if progress.error:
                raise CommandError(f"{node_id}: {progress.error}")
            if progress.done:
                return
    except RedisUnusableError as exc:
        raise CommandError(f"cannot ask {node_id} through Redis: {exc}") from None
    finally:
        await redis.aclose()


def _record_of(node_id: str, nodes: list[SeenNode]) -> NodeRecord:
    """Return the record of a node that takes requests. Raises CommandError."""
    node = next((node for node in nodes if node.node_id == node_id), None)
    if node is None:
        raise CommandError(f'there is no node "{node_id}": `wsd status --nodes` lists {_names(nodes)}')
    if node.is_gone:
        raise CommandError(f'node "{node_id}" is gone')
    if node.record is None or not node.record.inbox:
        raise CommandError(f'node "{node_id}" takes no requests: it has no cluster.cluster_key')
    return node.record


def _names(nodes: list[SeenNode]) -> str:
    return ", ".join(node.node_id for node in nodes if not node.is_gone)


def _silence(node_id: str, *, has_begun: bool) -> str:
    if has_begun:
        return f"{node_id} has stopped to answer; its work may go on, see `wsd status` there"
    return f"{node_id} did not take the request within {TAKEN_SECONDS:g} s: is its cluster.cluster_key the same?"
