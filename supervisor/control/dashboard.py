"""The web page of the cluster: it shows live what `wsd status`, `sessions`, `channels` and `events` show, with buttons.

nginx passes one location on to the supervisor's socket. `access.refusal` decides who may enter, and `GuessLimit` counts
wrong tokens.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs

import msgspec
from msgspec import structs
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from wsd.supervisor import template
from wsd.supervisor.cluster import Cluster
from wsd.supervisor.control import commands
from wsd.supervisor.control.access import HEADERS, Refusal, Visitor, access_to, refusal
from wsd.supervisor.control.guesses import Burst, GuessLimit
from wsd.supervisor.control.status_report import report
from wsd.supervisor.control.worker_questions import WORKER_QUESTIONS, pass_on
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.logs.events import EventFollower, read_events
from wsd.supervisor.logs.reading import choose
from wsd.supervisor.services.nginx_config import DASHBOARD_PATH, FORWARDED_HEADER
from wsd.templates import PAGE_FILES, template_text
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

INTENT_HEADER = "X-WSD-Dashboard"
"""The page sends this header with every request that changes something. No other site can make a browser send it."""

COOKIE = "wsd_dashboard_{port}"
"""The name has the port of the cluster in it, because browsers send cookies to all ports of a host."""

COOKIE_SECONDS = 30 * 86_400
MAX_STREAMS = 32
"""How many pages may be open at the same time."""

EVENTS_AT_FIRST = 100
TICK_SECONDS = 1.0
FILES = {
    **PAGE_FILES,
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "dashboard_nodes.js": "text/javascript",
    "dashboard_records.js": "text/javascript",
}


class Dashboard:
    """The routes of the page, below DASHBOARD_PATH."""

    def __init__(self, cluster: Cluster, operations: Operations) -> None:
        self._cluster = cluster
        self._operations = operations
        self._guesses = GuessLimit()
        self._streams = 0
        self.routes = [
            Route("/", self._front),
            Route("/login", self._login, methods=["POST"]),
            Route("/login", self._to_front),  # the browser's address after a wrong token
            Route("/stream", self._admitted(self._stream)),
            *(Route(f"/{name}", self._file) for name in FILES),
            *(
                Route(f"/api/{name}", self._admitted(self._ask), methods=[method])
                for name, method in WORKER_QUESTIONS.items()
            ),
            *(Route(f"/api/{name}", self._admitted(self._operate), methods=["POST"]) for name in commands.OPERATIONS),
        ]

    def _admitted(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            refused = self._refusal(request, changes=request.method == "POST")
            scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
            if refused is not None and refused.status == 401 and scheme.lower() == "bearer":
                refused = self._try_token(request, bearer)
            if refused is None:
                return await endpoint(request)
            return Response(refused.reason + "\n", refused.status, refused.headers, "text/plain")

        return guarded

    def _refusal(self, request: Request, *, changes: bool = False) -> Refusal | None:
        config = self._cluster.config
        if not config.dashboard.enabled:
            return Refusal(404, "there is no dashboard: dashboard.enabled is false")
        headers = request.headers
        visitor = Visitor(
            address=headers.get("X-Real-IP", ""),
            host=headers.get("Host", ""),
            forwarded=headers.get(FORWARDED_HEADER, ""),
            proof=request.cookies.get(COOKIE.format(port=config.cluster.port), ""),
            changes=changes,
            intent=INTENT_HEADER in headers,
        )
        return refusal(visitor, access_to(self._cluster))

    def _try_token(self, request: Request, given: str) -> Refusal | None:
        """Compare a token with ours, and return None if it is right.

        After too many wrong tokens none is compared for a while, so that a right guess is no use either.
        """
        address, now = request.headers.get("X-Real-IP", ""), time.monotonic()
        if wait := self._guesses.wait(address, now):
            return Refusal(429, "too many wrong tokens; try again later", math.ceil(wait))
        if access_to(self._cluster).is_token(given):
            return None
        for name, burst in self._guesses.wrong(address, now):
            if burst is Burst.BEGINS:
                logger.warning("dashboard: a wrong token from %s", name, extra=EVENT)
            else:
                logger.warning("dashboard: too many wrong tokens from %s, more must wait", name, extra=EVENT)
        return Refusal(401, "that is not the token")

    async def _front(self, request: Request) -> Response:
        """Return the page. A request with the token in its address gets the cookie, and is redirected to the page."""
        refused = self._refusal(request)
        given = request.query_params.get("token")
        if given is None or (refused is not None and refused.status != 401):
            return self._page() if refused is None else self._no_entry(refused, wrong=False)
        if refused is not None:
            refused = self._try_token(request, given)
        return self._enter(request) if refused is None else self._no_entry(refused, wrong=True)

    async def _to_front(self, request: Request) -> Response:
        return RedirectResponse(DASHBOARD_PATH, 303, HEADERS)

    async def _login(self, request: Request) -> Response:
        refused = self._refusal(request)
        if refused is not None and refused.status != 401:
            return self._no_entry(refused, wrong=False)
        try:
            fields = parse_qs((await request.body()).decode(), max_num_fields=1)
            (given,) = fields["token"]
        except (ValueError, KeyError):
            return self._no_entry(Refusal(400, "one field is wanted: token"), wrong=False)
        refused = self._try_token(request, given)
        return self._enter(request) if refused is None else self._no_entry(refused, wrong=True)

    def _no_entry(self, refused: Refusal, *, wrong: bool) -> Response:
        if refused.status not in (401, 429):
            return Response(refused.reason + "\n", refused.status, refused.headers, "text/plain")
        reason = refused.reason if wrong else ""
        configured = bool(access_to(self._cluster).configured)
        page = template.render("login.html.j2", reason=reason, configured=configured)
        return HTMLResponse(page, refused.status, refused.headers)

    def _enter(self, request: Request) -> Response:
        answer = RedirectResponse(DASHBOARD_PATH, 303, HEADERS)
        answer.set_cookie(
            COOKIE.format(port=self._cluster.config.cluster.port),
            access_to(self._cluster).proof,
            COOKIE_SECONDS,
            path=DASHBOARD_PATH,
            secure=request.headers.get("X-Forwarded-Proto") == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _page(self) -> Response:
        return HTMLResponse(template_text("dashboard.html"), headers=HEADERS)

    async def _file(self, request: Request) -> Response:
        name = request.scope["path"].rsplit("/", 1)[1]
        return Response(template_text(name), media_type=FILES[name], headers=HEADERS)

    async def _stream(self, request: Request) -> Response:
        """Send server-sent events (HTML Standard, section 9.2): the status every second, and new events."""
        if self._streams >= MAX_STREAMS:
            refused = Refusal(503, f"{MAX_STREAMS} pages are open already", retry_after=5)
            return Response(refused.reason + "\n", refused.status, refused.headers, "text/plain")
        return StreamingResponse(self._counted_ticks(), media_type="text/event-stream", headers=HEADERS)

    async def _counted_ticks(self) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            async for tick in self._ticks():
                yield tick
        finally:
            self._streams -= 1

    async def _ticks(self) -> AsyncIterator[bytes]:
        cluster = self._cluster
        access = access_to(cluster)
        path = cluster.state_dir.events
        follower = EventFollower(path)
        events = await asyncio.to_thread(lambda: list(read_events(path, choose(), EVENTS_AT_FIRST, follow=False)))
        while not cluster.is_ending:
            if access_to(cluster) != access or not cluster.config.dashboard.enabled:
                return  # the settings have changed, and the page has to log in again
            # The visitor is in already, and must not get a token to pass on.
            status = structs.replace(report(cluster, self._operations), dashboard_url="")
            data = msgspec.json.encode({"status": status, "events": events})
            yield b"data: " + data + b"\n\n"
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await cluster.children.until(lambda: cluster.is_ending)
            except TimeoutError:
                events = list(follower.new())

    async def _ask(self, request: Request) -> Response:
        _name_visitor(request)
        answer = await pass_on(self._cluster, request)
        return Response(answer, media_type="application/json", headers=HEADERS)

    async def _operate(self, request: Request) -> Response:
        """Begin an operation. Its progress is part of the status in the stream."""
        name = request.scope["path"].rsplit("/", 1)[1]
        _name_visitor(request)
        operation = commands.begin(self._cluster, self._operations, name, await request.body())
        return Response(msgspec.json.encode({"operation": operation.name}), 202, HEADERS, "application/json")


def _name_visitor(request: Request) -> None:
    """Let the events say that the visitor asked for it."""
    asked_by.set(f"the dashboard, from {request.headers.get('X-Real-IP', 'an unknown address')}")
