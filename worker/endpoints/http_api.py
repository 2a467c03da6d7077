"""The HTTP API of a worker beside its application: /health, statistics, metrics, publishing and histories."""

import ipaddress
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.broker.message_broker import HISTORY_UNAVAILABLE
from wsd.worker.contract.host_header import WRONG_HOST, is_own_host
from wsd.worker.contract.http_paths import (
    HEALTH_PATH,
    HISTORY_PATH,
    METRICS_PATH,
    OPERATOR_PREFIX,
    PUBLISH_PATH,
    STATS_PATH,
)
from wsd.worker.endpoints import operator_api
from wsd.worker.endpoints.http_publishing import publish
from wsd.worker.endpoints.responses import error_response, json_response, key_of
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.security.api_keys import refusal
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, check_channel
from wsd.worker.wire.position import MAX_OFFSET
from wsd.worker.worker import Worker

MAX_PAGE = 100
"""Users and channels in one page of statistics."""

MAX_OFFSET_LISTED = 10_000
"""Users and channels before the last page of statistics."""

MAX_DIGITS = 20
"""Digits of a number in a query."""

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
    try:
        limit = _number(request, "limit", 10, MAX_PAGE)
        offset = _number(request, "offset", 0, MAX_OFFSET_LISTED)
    except ValueError as exc:
        return error_response(400, str(exc))
    if request.query_params.get("scope") == "worker":
        return json_response(worker.manager.statistics(limit))
    await worker.heartbeat.beat_now()  # so that a worker that has just started counts
    workers = worker.heartbeat.totals.workers
    return json_response(await worker.manager.cluster_statistics(workers, offset=offset, limit=limit))


async def metrics(worker: Worker, request: Request) -> Response:
    """Answer in the text format of Prometheus."""
    from wsd.worker.endpoints.metrics import CONTENT_TYPE, render  # noqa: PLC0415 - takes 2 MB, and few ask for it

    return Response(render(worker), media_type=CONTENT_TYPE)


async def history(worker: Worker, request: Request) -> Response:
    """Answer with a page of a history, for a program that has an API key.

    `?since=&limit=&reverse=` mean the same as in a client's request.
    """
    key = key_of(worker, request, "history")
    if isinstance(key, Response):
        return key
    channel = request.scope["path"].removeprefix(HISTORY_PATH)
    try:
        since = _number(request, "since", 0, MAX_OFFSET)
        limit = _number(request, "limit", 100, wire.MAX_HISTORY_PAGE)
        if channel != BROADCAST:
            check_channel(channel, None)
    except (ValueError, wire.WireError) as exc:
        return error_response(400, str(exc))
    if (problem := refusal(key, "history", [channel])) is not None:
        return error_response(403, problem)
    reverse = request.query_params.get("reverse", "").lower() in ("1", "true")
    try:
        return json_response(await worker.manager.history(channel, since, max(1, limit), reverse=reverse))
    except RedisUnavailableError:
        return error_response(503, HISTORY_UNAVAILABLE)


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


def _number(request: Request, name: str, default: int, highest: int) -> int:
    """Return a number of the query. Raises ValueError for one that is not between 0 and `highest`."""
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS or int(text) > highest:
        raise ValueError(f"{name} must be an integer from 0 to {highest}, got {text[:MAX_DIGITS]!r}")
    return int(text)


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", HEALTH_PATH): health,
    ("HEAD", HEALTH_PATH): health,
    ("GET", STATS_PATH): stats,
    ("GET", METRICS_PATH): metrics,
    ("POST", PUBLISH_PATH): publish,
    ("GET", HISTORY_PATH): history,
}
PATHS = frozenset(path for _, path in ENDPOINTS)


def answers(path: str) -> bool:
    """Return whether a request for this path is answered here, not by the application."""
    return path in PATHS or path.startswith((HISTORY_PATH, OPERATOR_PREFIX))


async def answer(worker: Worker, request: Request) -> Response:
    """Answer a request for a path for which `answers` is True.

    This is not Starlette's Router: its routes would answer HEAD wherever GET is answered, and errors in plain text.
    """
    if request.scope["path"].startswith(OPERATOR_PREFIX):
        return await operator_api.answer(worker, request)
    path = HISTORY_PATH if request.scope["path"].startswith(HISTORY_PATH) else request.scope["path"]
    if path in (STATS_PATH, METRICS_PATH) and (problem := _may_not_look(worker, request)) is not None:
        return error_response(403, problem)
    endpoint = ENDPOINTS.get((request.method, path))
    if endpoint is None:
        allowed = ", ".join(method for method, known in ENDPOINTS if known == path)
        response = error_response(405, f"{request.method} is not for {path}")
        response.headers["Allow"] = allowed
        return response
    return await endpoint(worker, request)
