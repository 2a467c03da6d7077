"""The HTTP API of a worker beside its application: what is answered where, health, statistics and metrics."""

import asyncio
import ipaddress

from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.contract.host_header import WRONG_HOST, is_own_host
from wsd.worker.contract.http_paths import (
    ASYNCAPI_PATH,
    CHANNELS_PATH,
    DISCONNECT_PATH,
    HEALTH_PATH,
    HISTORY_PATH,
    METRICS_PATH,
    OPENAPI_PATH,
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
from wsd.worker.endpoints.answers import (
    ChannelsAnswer,
    ConnectionsAnswer,
    DeletedAnswer,
    EndedAnswer,
    PresenceAnswer,
    PublicHealth,
    PublicMode,
    PublishAnswer,
    SessionsAnswer,
)
from wsd.worker.endpoints.http_publishing import Outgoing, publish
from wsd.worker.endpoints.parameters import Number, Text
from wsd.worker.endpoints.responses import ApiError, check_key, error_response, json_response
from wsd.worker.endpoints.routes import Route
from wsd.worker.health import WorkerHealth
from wsd.worker.manager.statistics import ClusterStatistics, WorkerStatistics
from wsd.worker.wire.messages import HistoryPage
from wsd.worker.worker import Worker

MAX_PAGE = 100
"""Users and channels in one page of statistics."""

MAX_OFFSET_LISTED = 10_000
"""Users and channels before the last page of statistics."""

LISTED_OFFSET = Number("offset", "The number of larger users and channels before the page.", 0, MAX_OFFSET_LISTED)
LISTED_LIMIT = Number("limit", "How many of the largest users and channels are listed.", 10, MAX_PAGE)
SCOPE = Text("scope", "Whether to ask all workers, or the one that answers.", ("cluster", "worker"))


async def health(worker: Worker, request: Request) -> Response:
    """Tell load balancers whether to send traffic here: 200 or 503.

    Addresses, pids and memory are only for clients that may see statistics, too.
    """
    found = worker.health()
    body: object = found
    if _may_not_look(worker, request) is not None:
        body = PublicHealth(found.status, PublicMode(found.websocket.mode))
    return json_response(body, 200 if found.serves else 503)


async def stats(worker: Worker, request: Request) -> Response:
    """Answer with statistics of all workers or of this one, and their largest users and channels."""
    limit, offset = LISTED_LIMIT.of(request), LISTED_OFFSET.of(request)
    if SCOPE.of(request) == "worker":
        return json_response(worker.manager.statistics(limit))
    workers = await worker.count_workers()
    return json_response(await worker.manager.cluster_statistics(workers, offset=offset, limit=limit))


async def metrics(worker: Worker, request: Request) -> Response:
    """Answer in the text format of Prometheus."""
    from wsd.worker.endpoints.metrics import CONTENT_TYPE, render  # noqa: PLC0415 - takes 2 MB, and few ask for it

    return Response(render(worker), media_type=CONTENT_TYPE)


async def openapi(worker: Worker, request: Request) -> Response:
    """Answer with the description of the HTTP API (OpenAPI 3.1)."""
    from wsd.worker.endpoints.openapi import description  # noqa: PLC0415 - takes memory, and few ask for it

    return Response(await asyncio.to_thread(description, ROUTES), media_type="application/json")


async def asyncapi(worker: Worker, request: Request) -> Response:
    """Answer with the description of the hub's protocol over WebSocket (AsyncAPI 3.0)."""
    from wsd.worker.endpoints.asyncapi import description  # noqa: PLC0415 - takes memory, and few ask for it

    return Response(await asyncio.to_thread(description), media_type="application/json")


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


_HEALTH = {200: (WorkerHealth, PublicHealth), 503: (WorkerHealth, PublicHealth)}
_MEMBERSHIP = {200: (ConnectionsAnswer,)}
_PAGE = (management.PAGE_OFFSET, management.PAGE_LIMIT)
_HISTORY_PAGE = (management.SINCE, management.HISTORY_LIMIT, management.REVERSE, management.EPOCH)

ROUTES = (
    Route("GET", HEALTH_PATH, health, _HEALTH),
    Route("HEAD", HEALTH_PATH, health, _HEALTH),
    Route(
        "GET",
        STATS_PATH,
        stats,
        {200: (ClusterStatistics, WorkerStatistics)},
        for_administrators=True,
        parameters=(LISTED_OFFSET, LISTED_LIMIT, SCOPE),
    ),
    Route("GET", METRICS_PATH, metrics, {200: (str,)}, for_administrators=True),
    Route("GET", OPENAPI_PATH, openapi, {200: (dict,)}),
    Route("GET", ASYNCAPI_PATH, asyncapi, {200: (dict,)}),
    Route(
        "POST",
        PUBLISH_PATH,
        publish,
        {200: (PublishAnswer,), 503: (PublishAnswer,)},
        right="publish",
        body=(Outgoing, list[Outgoing]),
    ),
    Route(
        "GET",
        HISTORY_PATH,
        management.history,
        {200: (HistoryPage,)},
        right="history",
        parameters=_HISTORY_PAGE,
        errors=(503,),
    ),
    Route("DELETE", HISTORY_PATH, management.delete_history, {200: (DeletedAnswer,)}, right="history", errors=(503,)),
    Route(
        "GET",
        PRESENCE_PATH,
        management.presence,
        {200: (PresenceAnswer,)},
        right="presence",
        parameters=(management.MEMBERS_LIMIT,),
    ),
    Route("GET", CHANNELS_PATH, management.channels, {200: (ChannelsAnswer,)}, right="channels", parameters=_PAGE),
    Route(
        "GET",
        SESSIONS_PATH,
        management.sessions,
        {200: (SessionsAnswer,)},
        right="sessions",
        parameters=(management.OF_USER, *_PAGE),
        errors=(503,),
    ),
    Route(
        "POST",
        DISCONNECT_PATH,
        management.disconnect,
        {200: (EndedAnswer,)},
        right="disconnect",
        body=(management.Disconnect,),
        errors=(503,),
    ),
    Route("POST", SUBSCRIBE_PATH, management.subscribe, _MEMBERSHIP, right="subscribe", body=(management.ChangeUser,)),
    Route(
        "POST", UNSUBSCRIBE_PATH, management.unsubscribe, _MEMBERSHIP, right="subscribe", body=(management.ChangeUser,)
    ),
)
"""Everything that is answered here. The OpenAPI document is made from it."""

_BY_METHOD_AND_PATH = {(route.method, route.path): route for route in ROUTES}
PATHS = frozenset(route.path for route in ROUTES)

OF_CHANNELS = tuple({route.path for route in ROUTES if route.of_channel})
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
    route = _BY_METHOD_AND_PATH.get((request.method, path))
    if route is None:
        response = error_response(405, f"{request.method} is not for {path}")
        response.headers["Allow"] = ", ".join(known.method for known in ROUTES if known.path == path)
        return response
    if route.for_administrators and (problem := _may_not_look(worker, request)) is not None:
        return error_response(403, problem)
    try:
        if route.right is not None:
            check_key(worker, request, route.right)
        return await route.endpoint(worker, request)
    except ApiError as exc:
        return error_response(exc.status, str(exc))
