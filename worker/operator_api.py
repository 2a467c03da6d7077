"""What the supervisor asks a worker on behalf of people: sessions, channels, kick. Behind a key that only the cluster
knows, and nginx hides it.
"""

import hmac
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.contract import OPERATOR_KEY_HEADER, OPERATOR_PREFIX
from wsd.worker.session_store import SessionInfo
from wsd.worker.worker import Worker

MAX_PAGE = 1000

Endpoint = Callable[[Worker, Request], Awaitable[object]]


class Page(Struct, frozen=True):
    """Query parameters. `limit` of all there are from `offset` on; of `user` only, if it is not empty."""

    offset: int = 0
    limit: int = 100
    user: str = ""


class Kick(Struct, frozen=True, forbid_unknown_fields=True):
    """One session, or all of a user."""

    who: str


class ShownSession(Struct, frozen=True):
    """Without what would let somebody take it over."""

    session_id: str
    user_id: str
    username: str
    node_id: str
    worker_id: str
    state: str
    connected_at: float
    last_seen: float
    channels: list[str]

    @classmethod
    def of(cls, session: SessionInfo) -> "ShownSession":
        return cls(
            session.session_id,
            session.user_id,
            session.username,
            session.node_id,
            session.worker_id,
            session.state,
            session.connected_at,
            session.last_seen,
            sorted(session.channels),
        )


async def sessions(worker: Worker, request: Request) -> object:
    page = _page(request)
    store = worker.manager.sessions
    if page.user:
        found = await store.list_by_user(page.user)
        total, found = len(found), found[page.offset : page.offset + page.limit]
    else:
        total, found = await store.count(), await store.list_all(page.offset, page.limit)
    return {"total": total, "sessions": [ShownSession.of(session) for session in found]}


async def channels(worker: Worker, request: Request) -> object:
    page = _page(request)
    await worker.heartbeat.beat_now()  # a worker that has just started is to be counted
    workers = worker.heartbeat.totals.workers
    found = await worker.manager.cluster_statistics(workers, offset=page.offset, limit=page.limit)
    total = sum(each.channels for each in found.workers)
    return {"complete": found.complete, "total": total, "channels": found.channels}


async def kick(worker: Worker, request: Request) -> object:
    wanted = msgspec.json.decode(await request.body(), type=Kick)
    store = worker.manager.sessions
    found = await store.get(wanted.who)
    ended = [found] if found is not None else await store.list_by_user(wanted.who)
    await store.delete_many([session.session_id for session in ended])
    return {"sessions": [ShownSession.of(session) for session in ended]}


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "sessions"): sessions,
    ("GET", "channels"): channels,
    ("POST", "kick"): kick,
}


async def answer(worker: Worker, request: Request) -> Response:
    given = request.headers.get(OPERATOR_KEY_HEADER, "")
    endpoint = ENDPOINTS.get((request.method, request.url.path.removeprefix(OPERATOR_PREFIX)))
    if endpoint is None or not hmac.compare_digest(given.encode(), worker.env.operator_key.encode()):
        return _json({"error": "there is no such thing"}, 404)
    try:
        return _json(await endpoint(worker, request))
    except msgspec.MsgspecError as exc:
        return _json({"error": str(exc)}, 400)
    except (RedisError, OSError) as exc:
        return _json({"error": f"Redis does not answer: {exc}"}, 503)


def _page(request: Request) -> Page:
    """Raises MsgspecError."""
    page = msgspec.convert(dict(request.query_params), type=Page, strict=False)
    return msgspec.structs.replace(page, offset=max(0, page.offset), limit=max(0, min(MAX_PAGE, page.limit)))


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
