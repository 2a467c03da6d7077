"""The HTTP API of a worker beside its application: what is answered where, health, statistics and metrics."""

import ipaddress
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.contract.host_header import WRONG_HOST, is_own_host
from wsd.worker.contract.http_paths import (
    CHANNELS_PATH,
    DISCONNECT_PATH,
    HEALTH_PATH,
    HISTORY_PATH,
    METRICS_PATH,
    OPERATOR_PREFIX,
    PRESENCE_PATH,
    PUBLISH_PATH,
    SESSIONS_PATH,
    STATS_PATH,
    SUBSCRIBE_PATH,
    UNSUBSCRIBE_PATH,
)
from wsd.worker.endpoints import http_management as management
from wsd.worker.endpoints import operator_api
from wsd.worker.endpoints.http_publishing import publish
from wsd.worker.endpoints.responses import ApiError, error_response, json_response, number
from wsd.worker.worker import Worker

MAX_PAGE = 100
"""Users and channels in one page of statistics."""

MAX_OFFSET_LISTED = 10_000
"""Users and channels before the last page of statistics."""

Endpoint = Callable[[Worker, Request], Awaitable[Response]]


async def health(worker: Worker, request: Request) -> Response:
    """Tell load balancers whether to send traffic here: 200 or 503.

    Addresses, pids and memory are only for clients that may see statistics, too.
    """
    found = worker.health()
    body: object = found
    if _may_not_look(worker, request) is not None:
        body = {"status": found.status, "websocket": {"mode": found.websocket.mode}}
    return json_response(body, 200 if found.serves else 503)


async def stats(worker: Worker, request: Request) -> Response:
    """Answer with statistics of all workers, or of this one with `?scope=worker`.

    `?limit=` (10): how many of the largest users and channels to list, beginning at `?offset=` (0).
    """
    limit = number(request, "limit", 10, MAX_PAGE)
    offset = number(request, "offset", 0, MAX_OFFSET_LISTED)
    if request.query_params.get("scope") == "worker":
        return json_response(worker.manager.statistics(limit))
    await worker.heartbeat.beat_now()  # so that a worker that has just started counts
    workers = worker.heartbeat.totals.workers
    return json_response(await worker.manager.cluster_statistics(workers, offset=offset, limit=limit))


async def metrics(worker: Worker, request: Request) -> Response:
    """Answer in the text format of Prometheus."""
    from wsd.worker.endpoints.metrics import CONTENT_TYPE, render  # noqa: PLC0415 - takes 2 MB, and few ask for it

    return Response(render(worker), media_type=CONTENT_TYPE)


def _may_not_look(worker: Worker, request: Request) -> str | None:
    """Say why a client may not see statistics and metrics, or return None.

    Requests over the unix socket itself have no address, and may.
    """
    if request.client is None or not request.client.host:
        return None
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return "not from this address: see nginx.admin_allow"
    networks = (ipaddress.ip_network(text, strict=False) for text in worker.env.admin_allow.split(",") if text)
    if not any(address in network for network in networks):
        return "not from this address: see nginx.admin_allow"
    if not is_own_host(request.headers.get("host", ""), worker.env.admin_hosts.split(",")):
        return WRONG_HOST
    return None


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", HEALTH_PATH): health,
    ("HEAD", HEALTH_PATH): health,
    ("GET", STATS_PATH): stats,
    ("GET", METRICS_PATH): metrics,
    ("POST", PUBLISH_PATH): publish,
    ("GET", HISTORY_PATH): management.history,
    ("DELETE", HISTORY_PATH): management.delete_history,
    ("GET", PRESENCE_PATH): management.presence,
    ("GET", CHANNELS_PATH): management.channels,
    ("GET", SESSIONS_PATH): management.sessions,
    ("POST", DISCONNECT_PATH): management.disconnect,
    ("POST", SUBSCRIBE_PATH): management.subscribe,
    ("POST", UNSUBSCRIBE_PATH): management.unsubscribe,
}
PATHS = frozenset(path for _, path in ENDPOINTS)

OF_CHANNELS = (HISTORY_PATH, PRESENCE_PATH)
"""The paths that are followed by the name of a channel."""


def answers(path: str) -> bool:
    """Return whether a request for this path is answered here, not by the application."""
    return path in PATHS or path.startswith((*OF_CHANNELS, OPERATOR_PREFIX))


async def answer(worker: Worker, request: Request) -> Response:
    """Answer a request for a path for which `answers` is True.

    This is not Starlette's Router: its routes would answer HEAD wherever GET is answered, and errors in plain text.
    """
    path = request.scope["path"]
    if path.startswith(OPERATOR_PREFIX):
        return await operator_api.answer(worker, request)
    path = next((prefix for prefix in OF_CHANNELS if path.startswith(prefix)), path)
    if path in (STATS_PATH, METRICS_PATH) and (problem := _may_not_look(worker, request)) is not None:
        return error_response(403, problem)
    endpoint = ENDPOINTS.get((request.method, path))
    if endpoint is None:
        allowed = ", ".join(method for method, known in ENDPOINTS if known == path)
        response = error_response(405, f"{request.method} is not for {path}")
        response.headers["Allow"] = allowed
        return response
    try:
        return await endpoint(worker, request)
    except ApiError as exc:
        return error_response(exc.status, str(exc))
