"""What the supervisor asks a worker on behalf of people: sessions, channels, traces, kick, rebalance. Behind a key that
only the cluster knows, and nginx hides it.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER, OPERATOR_PREFIX
from wsd.worker.delivery import flight_recorder
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.sessions.session_store import SessionInfo
from wsd.worker.worker import Worker

MAX_PAGE = 1000
MAX_PAGE_OFFSET = 1_000_000_000

Endpoint = Callable[[Worker, Request], Awaitable[object]]


class Page(Struct, frozen=True):
    """Query parameters. `limit` of all there are from `offset` on; of `user` only, if it is not empty."""

    offset: int = 0
    limit: int = 100
    user: str = ""


class Kick(Struct, frozen=True, forbid_unknown_fields=True):
    """One session, or all of a user."""

    who: str


class Rebalance(Struct, frozen=True, forbid_unknown_fields=True):
    """How many connections of this worker alone are to move."""

    connections: Annotated[int, Meta(ge=1)]


SHOWN = ("session_id", "user_id", "username", "node_id", "worker_id", "state", "connected_at", "last_seen")


def shown(session: SessionInfo) -> dict[str, Any]:
    """Without what would let somebody take it over."""
    return {**{name: getattr(session, name) for name in SHOWN}, "channels": sorted(session.channels)}


async def sessions(worker: Worker, request: Request) -> object:
    page = _page(request)
    store = worker.backend.sessions
    if page.user:
        found = await store.list_by_user(page.user)
        total, found = len(found), found[page.offset : page.offset + page.limit]
    else:
        total, found = await store.count(), await store.list_all(page.offset, page.limit)
    return {"total": total, "sessions": [shown(session) for session in found]}


async def channels(worker: Worker, request: Request) -> object:
    page = _page(request)
    await worker.heartbeat.beat_now()  # a worker that has just started is to be counted
    workers = worker.heartbeat.totals.workers
    found = await worker.manager.cluster_statistics(workers, offset=page.offset, limit=page.limit)
    total = sum(each.channels for each in found.workers)
    silent = worker.heartbeat.live_workers - {each.worker_id for each in found.workers} if not found.complete else ()
    return {"complete": found.complete, "silent": sorted(silent), "total": total, "channels": found.channels}


async def trace(worker: Worker, request: Request) -> object:
    who = request.query_params.get("who", "")
    tracing = worker.parts.tracing
    await worker.heartbeat.beat_now()
    live = worker.heartbeat.live_workers
    traces = [await tracing.trace(session_id, live) for session_id in await tracing.sessions(who)]
    return {"node_id": worker.env.node_id, "sessions": [flight_recorder.shown(each) for each in traces]}


async def kick(worker: Worker, request: Request) -> object:
    wanted = msgspec.json.decode(await request.body(), type=Kick)
    store = worker.backend.sessions
    found = await store.get(wanted.who)
    ended = [found] if found is not None else await store.list_by_user(wanted.who)
    await store.delete_many([session.session_id for session in ended])
    for session in ended:
        if session.worker_id == worker.manager.worker_id:
            worker.parts.keeper.changed(session.session_id)  # the store tells other workers only
    return {"sessions": [shown(session) for session in ended]}


async def rebalance(worker: Worker, request: Request) -> object:
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
    given = request.headers.get(OPERATOR_KEY_HEADER, "")
    endpoint = ENDPOINTS.get((request.method, request.scope["path"].removeprefix(OPERATOR_PREFIX)))
    key = worker.env.operator_key
    if endpoint is None or not key or not hmac.compare_digest(given.encode(), key.encode()):
        return _json({"error": "there is no such thing"}, 404)
    try:
        return _json(await endpoint(worker, request))
    except msgspec.MsgspecError as exc:
        return _json({"error": str(exc)}, 400)
    except RedisUnavailableError as exc:
        return _json({"error": f"Redis does not answer: {exc}"}, 503)


def _page(request: Request) -> Page:
    """Raises MsgspecError."""
    page = msgspec.convert(dict(request.query_params), type=Page, strict=False)
    offset, limit = min(page.offset, MAX_PAGE_OFFSET), min(page.limit, MAX_PAGE)
    return msgspec.structs.replace(page, offset=max(0, offset), limit=max(0, limit))


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
