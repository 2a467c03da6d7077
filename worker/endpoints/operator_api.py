"""Requests of the supervisor on behalf of operators: sessions, channels, traces, kick, rebalance.

They need a key that only the cluster knows, and nginx forwards none of them.
"""

import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.archive.marks import SETTLE_SECONDS
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER, OPERATOR_PREFIX
from wsd.worker.contract.redis_keys import ARCHIVE_KEY
from wsd.worker.delivery import connection_record
from wsd.worker.endpoints.answers import ChannelsAnswer, EndedAnswer, SessionsAnswer, ShownSession
from wsd.worker.endpoints.responses import error_response, is_key, json_response
from wsd.worker.errors import ArchiveUnavailableError, RedisUnavailableError
from wsd.worker.redis_client import redis_errors
from wsd.worker.worker import Worker

if TYPE_CHECKING:
    from wsd.worker.archive.reader import ArchiveReader

MAX_PAGE = 1000
"""Sessions or channels in one page."""

MAX_AGE_SECONDS = 3_153_600_000
"""A hundred years."""

MAX_PAGE_OFFSET = 1_000_000_000

Endpoint = Callable[[Worker, Request], Awaitable[object]]


class Page(Struct, frozen=True):
    """The query parameters of a page: `limit` items from `offset` on; only those of `user`, if it is not empty."""

    offset: int = 0
    limit: int = 100
    user: str = ""


class Kick(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to end one session, or all sessions of a user."""

    who: str  # session id or user id


class Rebalance(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to this one worker to send connections to the others."""

    connections: Annotated[int, Meta(ge=1)]


class Prune(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to delete messages of an age from the archive, in channels whose names match.

    With `is_test` nothing is deleted. Otherwise some are, and the request is made again until none is left.
    """

    older_than_seconds: Annotated[float, Meta(ge=0, le=MAX_AGE_SECONDS)]
    channel: Annotated[str, Meta(max_length=255, pattern=r"\A[^\x00]+\Z")] = "*"
    is_test: bool = False


async def sessions(worker: Worker, request: Request) -> object:
    """Answer with a page of the sessions on all workers."""
    page = _page(request)
    total, found = await worker.manager.sessions(page.user, offset=page.offset, limit=page.limit)
    return SessionsAnswer(total, [ShownSession.of(session) for session in found])


async def channels(worker: Worker, request: Request) -> object:
    """Answer with a page of the largest channels, and the workers that did not say which they have."""
    page = _page(request)
    return await largest_channels(worker, page.offset, page.limit)


async def largest_channels(worker: Worker, offset: int, limit: int) -> ChannelsAnswer:
    """Return a page of the largest channels, and the workers that did not say which they have."""
    workers = await worker.count_workers()
    found = await worker.manager.cluster_statistics(workers, offset=offset, limit=limit)
    total = sum(each.channels for each in found.workers)
    silent = worker.heartbeat.live_workers - {each.worker_id for each in found.workers} if not found.complete else ()
    return ChannelsAnswer(complete=found.complete, silent=sorted(silent), total=total, channels=found.channels)


async def trace(worker: Worker, request: Request) -> object:
    """Answer with what happened to the connections of a session, or of a user's sessions (`?who=`)."""
    who = request.query_params.get("who", "")
    tracer = worker.parts.sessions.tracer
    await worker.heartbeat.beat_now()
    live = worker.heartbeat.live_workers
    traces = [await tracer.trace(session_id, live) for session_id in await tracer.sessions(who)]
    return {"node_id": worker.env.node_id, "sessions": [connection_record.shown(each) for each in traces]}


async def kick(worker: Worker, request: Request) -> object:
    """End sessions, and close their connections. Answer with the sessions."""
    wanted = msgspec.json.decode(await request.body(), type=Kick)
    ended = await worker.manager.end_sessions(session_id=wanted.who) if wanted.who else []
    if wanted.who and not ended:
        ended = await worker.manager.end_sessions(user_id=wanted.who)
    return EndedAnswer([ShownSession.of(session) for session in ended])


async def rebalance(worker: Worker, request: Request) -> object:
    """Send connections of this worker away. Answer with the seconds that it takes."""
    wanted = msgspec.json.decode(await request.body(), type=Rebalance)
    return {"seconds": worker.manager.send_away(wanted.connections, worker.env.drain_seconds)}


async def archive(worker: Worker, request: Request) -> object:
    """Answer with what the archive holds, and what is marked longer than a mark is kept anyway."""
    stock = await _archive_of(worker).stock()
    waiting, oldest = 0, 0.0
    if (redis := worker.backend.heartbeat_redis) is not None:
        now = time.time()
        async with redis_errors(worker.env.redis_timeout):
            waiting = await redis.zcount(ARCHIVE_KEY, 0, (now - 2 * SETTLE_SECONDS) * 1_000_000)
            first: Any = await redis.zrange(ARCHIVE_KEY, 0, 0, withscores=True)
        oldest = max(0.0, now - first[0][1] / 1_000_000) if waiting and first else 0.0
    return {**msgspec.structs.asdict(stock), "waiting": waiting, "waiting_seconds": oldest}


async def prune_archive(worker: Worker, request: Request) -> object:
    """Delete some old messages from the archive, or count them. Answer with their number."""
    wanted = msgspec.json.decode(await request.body(), type=Prune)
    pattern = "%".join(re.sub(r"([\\%_])", r"\\\1", part) for part in wanted.channel.split("*"))
    archive = _archive_of(worker)
    return {"messages": await archive.prune(wanted.older_than_seconds, pattern, is_test=wanted.is_test)}


def _archive_of(worker: Worker) -> "ArchiveReader":
    """Return the archive. Raises ArchiveUnavailableError where there is none."""
    if worker.backend.archive is None:
        raise ArchiveUnavailableError("no channel has `archive = true`")
    return worker.backend.archive


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "sessions"): sessions,
    ("GET", "channels"): channels,
    ("GET", "trace"): trace,
    ("POST", "kick"): kick,
    ("POST", "rebalance"): rebalance,
    ("GET", "archive"): archive,
    ("POST", "prune-archive"): prune_archive,
}


async def answer(worker: Worker, request: Request) -> Response:
    """Answer a request below OPERATOR_PREFIX. Without the key there is nothing here: 404."""
    given = request.headers.get(OPERATOR_KEY_HEADER, "")
    endpoint = ENDPOINTS.get((request.method, request.scope["path"].removeprefix(OPERATOR_PREFIX)))
    if endpoint is None or not is_key(given, worker.env.operator_key):
        return error_response(404, "not found")
    try:
        return json_response(await endpoint(worker, request))
    except msgspec.MsgspecError as exc:
        return error_response(400, str(exc))
    except RedisUnavailableError as exc:
        return error_response(503, f"Redis does not answer: {exc}")
    except ArchiveUnavailableError as exc:
        return error_response(503, f"the archive cannot be asked: {exc}")


def _page(request: Request) -> Page:
    """Return the page that a query asks for, within the limits. Raises MsgspecError."""
    page = msgspec.convert(dict(request.query_params), type=Page, strict=False)
    offset, limit = min(page.offset, MAX_PAGE_OFFSET), min(page.limit, MAX_PAGE)
    return msgspec.structs.replace(page, offset=max(0, offset), limit=max(0, limit))
