"""The web page of the cluster: what `wsd status`, `sessions`, `channels`, `events` show, live, with buttons.

nginx passes one location on to here. Who may enter is `refusal`: without `dashboard.token` this machine alone.
"""

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from wsd.supervisor import commands, log_lines, template
from wsd.supervisor.asker import asked_by
from wsd.supervisor.nginx import DASHBOARD_PATH, FORWARDED_HEADER

if TYPE_CHECKING:
    from wsd.supervisor.supervisor import Supervisor

INTENT_HEADER = "X-WSD-Dashboard"
"""What the page sends with everything that changes something; no other site can make a browser send it."""

COOKIE = "wsd_dashboard"
COOKIE_SECONDS = 30 * 86_400
WRONG_TOKEN_SECONDS = 1.0
"""How long a wrong token waits for its answer."""

EVENTS_AT_FIRST = 100
TICK_SECONDS = 1.0
FILES = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


class Visitor(Struct, frozen=True):
    """What decides whether somebody may enter."""

    address: str  # the client's, as nginx knows it
    host: str  # that the browser believes to talk to
    forwarded: str = ""  # traces of another proxy
    proof: str = ""  # of the token
    changes: bool = False  # asks for more than a look
    intent: bool = True  # and is the page


def proof_of(token: str) -> str:
    """What the browser keeps instead of the token."""
    return hmac.new(token.encode(), b"wsd dashboard", hashlib.sha256).hexdigest()


def refusal(visitor: Visitor, token: str) -> tuple[int, str] | None:
    """Status and reason, or None. Pure."""
    if visitor.changes and not visitor.intent:
        return 403, "this did not come from the dashboard's own page"
    if token:
        if hmac.compare_digest(visitor.proof.encode(), proof_of(token).encode()):
            return None
        return 401, "the token is needed: dashboard.token of wsd.toml"
    if not _is_loopback(visitor.address) or visitor.forwarded:
        return 403, "only from this machine, and through no other proxy; set dashboard.token to open it with a token"
    if not _is_loopback_name(visitor.host):
        # A name that its owner lets point at 127.0.0.1: another site's page would read this one.
        return 403, "only as localhost or 127.0.0.1; set dashboard.token to open it with a token"
    return None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_loopback_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return name == "localhost" or _is_loopback(name.strip("[]"))


class Dashboard:
    """`routes` are those below DASHBOARD_PATH."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self.routes = [
            Route("/", self._admitted(self._page)),
            Route("/login", self._login, methods=["POST"]),
            Route("/stream", self._admitted(self._stream)),
            *(Route(f"/{name}", self._file) for name in FILES),
            *(
                Route(f"/api/{name}", self._admitted(self._ask), methods=[method])
                for name, method in commands.WORKER_QUESTIONS.items()
            ),
            *(Route(f"/api/{name}", self._admitted(self._operate), methods=["POST"]) for name in commands.OPERATIONS),
        ]

    def _admitted(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            refused = self._refusal(request)
            if refused is None:
                return await endpoint(request)
            status, reason = refused
            if status == 401 and request.scope["path"] == DASHBOARD_PATH:
                return HTMLResponse(template.render("login.html.j2", wrong=False), status, HEADERS)
            return Response(reason + "\n", status, HEADERS, "text/plain")

        return guarded

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        config = self._supervisor.config.dashboard
        if not config.enabled:
            return 404, "there is no dashboard: dashboard.enabled is false"
        headers = request.headers
        scheme, _, bearer = headers.get("Authorization", "").partition(" ")
        visitor = Visitor(
            address=headers.get("X-Real-IP", ""),
            host=headers.get("Host", ""),
            forwarded=headers.get(FORWARDED_HEADER, ""),
            proof=proof_of(bearer) if scheme.lower() == "bearer" else request.cookies.get(COOKIE, ""),
            changes=request.method == "POST",
            intent=INTENT_HEADER in headers,
        )
        return refusal(visitor, config.token)

    async def _login(self, request: Request) -> Response:
        token = self._supervisor.config.dashboard.token
        given = parse_qs((await request.body()).decode(errors="replace")).get("token", [""])[0]
        if not token or not hmac.compare_digest(given.encode(), token.encode()):
            await asyncio.sleep(WRONG_TOKEN_SECONDS)
            return HTMLResponse(template.render("login.html.j2", wrong=True), 401, HEADERS)
        answer = RedirectResponse(DASHBOARD_PATH, 303, HEADERS)
        secure = request.headers.get("X-Forwarded-Proto") == "https"
        answer.set_cookie(
            COOKIE,
            proof_of(token),
            COOKIE_SECONDS,
            path=DASHBOARD_PATH,
            secure=secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(_template("dashboard.html"), headers=HEADERS)

    async def _file(self, request: Request) -> Response:
        name = request.scope["path"].rsplit("/", 1)[1]
        return Response(_template(name), media_type=FILES[name], headers=HEADERS)

    async def _stream(self, request: Request) -> Response:
        """Server-sent events (HTML Standard, 9.2): the status every second, and what has happened."""
        return StreamingResponse(self._ticks(), media_type="text/event-stream", headers=HEADERS)

    async def _ticks(self) -> AsyncIterator[bytes]:
        supervisor = self._supervisor
        path = supervisor.state_dir.events
        follower = log_lines.EventFollower(path)
        events = await asyncio.to_thread(
            lambda: list(log_lines.events(path, log_lines.choose(), EVENTS_AT_FIRST, follow=False))
        )
        while not (supervisor.stopping or supervisor.handing_over):
            told = msgspec.json.encode({"status": supervisor.status(), "events": events})
            yield b"data: " + told + b"\n\n"
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await supervisor.children.until(lambda: supervisor.stopping or supervisor.handing_over)
            except TimeoutError:
                events = list(follower.new())

    async def _ask(self, request: Request) -> Response:
        name = request.scope["path"].rsplit("/", 1)[1]
        query = request.scope["query_string"].decode("latin-1")
        target = f"{name}?{query}" if query else name
        body = msgspec.json.decode(await request.body()) if request.method == "POST" else None
        _note_who_asks(request)
        answer = await commands.ask_worker(self._supervisor, request.method, target, body)
        return Response(answer, media_type="application/json", headers=HEADERS)

    async def _operate(self, request: Request) -> Response:
        """Begin it; how it goes is in the stream."""
        name = request.scope["path"].rsplit("/", 1)[1]
        _note_who_asks(request)
        operation = commands.begin(self._supervisor, name, await request.body())
        return Response(msgspec.json.encode({"operation": operation.name}), 202, HEADERS, "application/json")


def _note_who_asks(request: Request) -> None:
    asked_by.set(f"the dashboard, from {request.headers.get('X-Real-IP', 'an unknown address')}")


def _template(name: str) -> str:
    return resources.files("wsd.templates").joinpath(name).read_text("utf-8")
