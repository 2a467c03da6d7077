"""Requests of the supervisor on behalf of operators: sessions, channels, traces, kick, rebalance.

They need a key that only the cluster knows, and nginx forwards none of them.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER, OPERATOR_PREFIX
from wsd.worker.delivery import connection_record
from wsd.worker.endpoints.answers import ChannelsAnswer, EndedAnswer, SessionsAnswer, ShownSession
from wsd.worker.endpoints.responses import error_response, is_key, json_response
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.worker import Worker

MAX_PAGE = 1000
"""Sessions or channels in one page."""

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


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "sessions"): sessions,
    ("GET", "channels"): channels,
    ("GET", "trace"): trace,
    ("POST", "kick"): kick,
    ("POST", "rebalance"): rebalance,
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


def _page(request: Request) -> Page:
    """Return the page that a query asks for, within the limits. Raises MsgspecError."""
    page = msgspec.convert(dict(request.query_params), type=Page, strict=False)
    offset, limit = min(page.offset, MAX_PAGE_OFFSET), min(page.limit, MAX_PAGE)
    return msgspec.structs.replace(page, offset=max(0, offset), limit=max(0, limit))
