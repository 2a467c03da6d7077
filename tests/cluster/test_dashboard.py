"""The dashboard in a real browser: access, what it shows, and what its buttons do."""

import asyncio
import base64
import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, Tab, chromium, open_tab
from tests.support.cluster import Cluster
from tests.support.waiting import eventually, until
from wsd.supervisor.control.dashboard import MAX_STREAMS
from wsd.supervisor.unix_http import request
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER

pytestmark = pytest.mark.anyio

DASHBOARD = "/_wsd/dashboard/"
INTENT = {"X-WSD-Dashboard": "1"}
MANY = 64 * 1024

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


def ask(
    cluster: Cluster, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body. The names of `headers` have _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def token_of(cluster: Cluster) -> str:
    return cluster.status().dashboard_url.partition("?token=")[2]


def enter(cluster: Cluster, token: str = "") -> str:
    """Return the cookie that the address with the token sets."""
    status, headers, _ = ask(cluster, f"{DASHBOARD}?token={token or token_of(cluster)}")
    assert (status, headers["location"]) == (303, DASHBOARD)
    return headers["set-cookie"].partition(";")[0]


@contextmanager
def dashboard(cluster: Cluster) -> Iterator[Tab]:
    """Open the page in a browser, and yield it once it shows the state of the cluster."""
    with (
        chromium(cluster.directory) as port,
        open_tab(port, cluster.status().dashboard_url) as tab,
    ):
        until(lambda: tab.text("#state") == "healthy")
        yield tab


def count(tab: Tab, selector: str) -> int:
    return int(tab.text(selector).replace(",", "").replace("\u2013", "0") or 0)


async def test_the_address_in_the_banner_opens_it(cluster: Cluster) -> None:
    url = cluster.status().dashboard_url
    assert url.startswith(f"http://127.0.0.1:{cluster.port}{DASHBOARD}?token=")
    assert url in cluster.output
    assert url in cluster.wsd("status").stdout
    assert json.loads(cluster.wsd("status", "--json").stdout)["dashboard_url"] == url
    status, headers, _ = ask(cluster, url.partition(str(cluster.port))[2])
    assert (status, headers["location"]) == (303, DASHBOARD)  # without the token
    flags = {part.strip() for part in headers["set-cookie"].split(";")}
    assert {"HttpOnly", "SameSite=strict", f"Path={DASHBOARD}"} <= flags
    cookie = headers["set-cookie"].partition(";")[0]
    assert token_of(cluster) not in cookie
    status, headers, page = ask(cluster, DASHBOARD, Cookie=cookie)
    assert status == 200
    assert b"dashboard.js" in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert ask(cluster, DASHBOARD.rstrip("/"))[0] == 301
    for name in ("dashboard.js", "dashboard.css"):
        assert ask(cluster, DASHBOARD + name)[0] == 200
    assert json.loads(ask(cluster, f"{DASHBOARD}api/channels", Cookie=cookie)[2])["complete"]
    assert token_of(cluster) not in "".join(path.read_text() for path in cluster.state_dir.logs.iterdir())


async def test_a_request_without_the_token_is_refused(cluster: Cluster) -> None:
    cookie = enter(cluster)
    for path in ("", "stream", "api/sessions"):
        assert ask(cluster, DASHBOARD + path)[0] == 401
        assert ask(cluster, DASHBOARD + path, Cookie=cookie + "0")[0] == 401
    assert b'type="password"' in ask(cluster, DASHBOARD)[2]
    assert ask(cluster, f"{DASHBOARD}api/restart", "POST", "{}", **INTENT)[0] == 401
    # With it on this machine alone: through another proxy, or by a name that somebody lets point here, it is refused.
    for header in ("X_Forwarded_For", "Forwarded", "Via"):
        assert ask(cluster, DASHBOARD, Cookie=cookie, **{header: "x"})[0] == 403
        assert ask(cluster, f"{DASHBOARD}?token={token_of(cluster)}", **{header: "x"})[0] == 403
    for path in ("", "stream", "api/sessions"):
        assert ask(cluster, DASHBOARD + path, Host="evil.example", Cookie=cookie)[0] == 403
    assert ask(cluster, f"{DASHBOARD}login", "POST", f"token={token_of(cluster)}", Host="evil.example")[0] == 403
    # What only nginx may say.
    assert ask(cluster, DASHBOARD, X_Real_IP="192.0.2.1", Cookie=cookie)[0] == 200
    assert ask(cluster, DASHBOARD, X_WSD_Forwarded="x", Cookie=cookie)[0] == 200


async def test_the_control_socket_answers_only_requests_with_the_operator_key(cluster: Cluster) -> None:
    path = cluster.state_dir.control_socket
    key = {OPERATOR_KEY_HEADER: cluster.state_dir.operator_key_path.read_text()}
    for method, target in (("GET", "/v1/status"), ("GET", "/v1/sessions"), ("POST", "/v1/stop"), ("POST", "/v1/scale")):
        for headers in ({}, {OPERATOR_KEY_HEADER: ""}, {OPERATOR_KEY_HEADER: "x" * 32}):
            status, body = request(path, method, target, 5, {}, headers=headers)
            assert status == 403, target
            assert b"operator.key" in body, target
    assert request(path, "GET", "/v1/metrics", 5)[0] == 200  # nginx asks for it, and decides for whom
    assert request(path, "POST", "/v1/scale", 5, {"workers": "x" * MANY}, headers=key)[0] == 413
    assert request(path, "POST", "/v1/scale", 5, {"workers": "x"}, headers=key)[0] == 400
    for target in (f"{DASHBOARD}login", f"{DASHBOARD}api/kick"):
        assert request(path, "POST", target, 5, "x" * MANY)[0] == 413
    assert request(path, "POST", f"{DASHBOARD}login", 5, "x" * 1100)[0] == 413
    for form in ("", "token=a&token=b", "a=1&b=2", "user=a", "%ff", "token=", "=", "&" * 1000):
        assert ask(cluster, f"{DASHBOARD}login", "POST", form)[0] in (400, 401, 429), form
    for nested in ("[" * 8000, "[" * 8000 + "]" * 8000, '{"a":' * 3000):
        status, _, body = ask(cluster, f"{DASHBOARD}api/kick", "POST", nested, Cookie=enter(cluster), **INTENT)
        assert status == 400
        assert b"error" in body
    assert cluster.is_healthy()


async def test_large_bodies_to_the_dashboard_hold_up_nothing(cluster: Cluster) -> None:
    before = [worker.pid for worker in cluster.status().workers]

    def post(number: int) -> int:
        target = ("login", "api/restart", "api/kick")[number % 3]
        with suppress(OSError):  # nginx may cut who sends too much
            return ask(cluster, DASHBOARD + target, "POST", "token=" + "&" * 999_000, **INTENT)[0]
        return 413

    async with asyncio.TaskGroup() as tasks:
        posts = [tasks.create_task(asyncio.to_thread(post, number)) for number in range(14)]
    assert {task.result() for task in posts} <= {413, 502}
    assert cluster.is_healthy()
    assert [worker.pid for worker in cluster.status().workers] == before


async def test_a_body_that_does_not_come_is_not_waited_for_for_long(cluster: Cluster) -> None:
    reader, writer = await asyncio.open_unix_connection(cluster.state_dir.control_socket)
    writer.write(f"POST {DASHBOARD}login HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\ntok".encode())
    async with asyncio.timeout(20):
        assert b" 408 " in await reader.readline()
    writer.close()


async def test_streams_are_limited_and_end_with_their_token(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster, ExitStack() as stack:
        cookie = enter(cluster)

        def stream() -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
            stack.callback(connection.close)
            connection.request("GET", f"{DASHBOARD}stream", headers={"Cookie": cookie})
            return connection.getresponse()

        streams = [stream() for _ in range(MAX_STREAMS)]
        assert {answer.status for answer in streams} == {200}
        assert b"?token=" not in streams[0].readline()
        refused = stream()
        assert (refused.status, refused.getheader("Retry-After")) == (503, "5")
        assert cluster.is_healthy()
        (tmp_path / "wsd.toml").write_text('[dashboard]\ntoken = "another"\n')
        assert cluster.wsd("reload").returncode == 0
        for answer in streams:
            answer.read()
        assert ask(cluster, DASHBOARD, Cookie=cookie)[0] == 401


async def test_tokens_cannot_be_guessed(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", config='[dashboard]\ntoken = "s3cret"\n') as cluster:
        cookie = enter(cluster, "s3cret")
        ways: tuple[Callable[[str], int], ...] = (
            lambda guess: ask(cluster, f"{DASHBOARD}login", "POST", f"token={guess}")[0],
            lambda guess: ask(cluster, f"{DASHBOARD}?token={guess}")[0],
            lambda guess: ask(cluster, f"{DASHBOARD}api/sessions", Authorization=f"Bearer {guess}")[0],
        )
        seen = [ways[number % 3](f"guess-{number}") for number in range(30)]
        assert seen == [401] * 5 + [429] * 25
        for way in ways:
            assert way("s3cret") == 429  # else trying would go on
        assert int(ask(cluster, f"{DASHBOARD}?token=x")[1]["retry-after"]) in range(1, 11)
        assert ask(cluster, f"{DASHBOARD}api/sessions", Cookie=cookie)[0] == 200  # who is in stays in
        events = cluster.wsd("events").stdout
        assert events.count("dashboard: a wrong token from 127.0.0.1") == 1
        assert events.count("dashboard: too many wrong tokens from 127.0.0.1, more must wait") == 1


async def test_another_site_cannot_press_its_buttons(cluster: Cluster) -> None:
    before = [worker.pid for worker in cluster.status().workers]
    cookie = enter(cluster)
    for method, name in (("POST", "restart"), ("POST", "kick"), ("POST", "scale")):
        assert ask(cluster, f"{DASHBOARD}api/{name}", method, "{}", Cookie=cookie)[0] == 403
    assert ask(cluster, f"{DASHBOARD}api/restart", Sec_Fetch_Site="cross-site")[0] == 405
    status, headers, _ = ask(cluster, f"{DASHBOARD}api/restart", "OPTIONS", Origin="http://evil.example")
    assert status == 405
    assert "access-control-allow-origin" not in headers
    assert [worker.pid for worker in cluster.status().workers] == before


async def test_no_other_path_of_the_control_socket_is_reachable_through_the_dashboard(cluster: Cluster) -> None:
    cookie = enter(cluster)
    for path in ("v1/status", "../v1/status", "%2e%2e/v1/status", "..%2fv1/status", "api/stop", "api/upgrade"):
        for method in ("GET", "POST"):
            status, _, body = ask(cluster, DASHBOARD + path, method, Cookie=cookie, **INTENT)
            assert status in (404, 405), (path, status)
            assert b"problems" not in body
    for path in ("/v1/stop/../..", "/v1/stop/..%2f..", "/v1/stop//../..", "/v1/stop%23/../..", "/v1/stop%3f/../.."):
        assert ask(cluster, path + DASHBOARD, "POST", "{}", Cookie=cookie, **INTENT)[0] in (403, 404, 405), path
    assert ask(cluster, f"{DASHBOARD}api/scale", "POST", '{"workers": 0}', Cookie=cookie, **INTENT)[0] == 400
    assert ask(cluster, f"{DASHBOARD}api/scale", "POST", "nonsense", Cookie=cookie, **INTENT)[0] == 400
    assert cluster.is_healthy()


async def test_a_dashboard_with_a_token_in_the_settings_asks_for_it(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", config='[dashboard]\ntoken = "s3cret"\n') as cluster:
        assert f"http://127.0.0.1:{cluster.port}{DASHBOARD}" in cluster.output
        status, _, page = ask(cluster, DASHBOARD)
        assert status == 401
        assert b'type="password"' in page
        assert ask(cluster, f"{DASHBOARD}api/sessions")[0] == 401
        assert b"not the token" not in page.lower()
        status, _, page = ask(cluster, f"{DASHBOARD}login", "POST", "token=wrong")
        assert status == 401
        assert b"that is not the token" in page.lower()
        status, headers, _ = ask(cluster, f"{DASHBOARD}login", "POST", "token=s3cret")
        assert (status, headers["location"]) == (303, DASHBOARD)
        cookie = headers["set-cookie"]
        assert "s3cret" not in cookie
        assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
        assert ask(cluster, DASHBOARD, Cookie=cookie.partition(";")[0], X_Forwarded_For="192.0.2.1")[0] == 200
        assert ask(cluster, f"{DASHBOARD}api/sessions", Authorization="Bearer s3cret")[0] == 200
        assert "s3cret" not in cluster.wsd("config").stdout
        (tmp_path / "wsd.toml").write_text("[dashboard]\nenabled = false\n")
        assert cluster.wsd("reload").returncode == 0
        assert ask(cluster, DASHBOARD, Authorization="Bearer s3cret")[0] == 404


@in_a_browser
async def test_figures_move_while_clients_talk_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster, dashboard(cluster) as tab:
        assert tab.text("#total-connections") == "0"
        clients = [await cluster.client(f"<b>user-{number}</b>") for number in range(5)]
        for client in clients:
            await client.ask(type="subscribe", channel="news")
        await eventually(lambda: tab.text("#total-connections") == "5")

        async def talked() -> int:
            for client in clients:
                await client.ask(type="publish", channel="news", data="hello")
            return count(tab, "#total-sent")

        while not await talked():
            pass
        await eventually(lambda: "news" in tab.text("#channels"))
        await eventually(lambda: "<b>user-3</b>" in tab.text("#sessions"))  # as text
        assert tab.run("document.querySelectorAll('#sessions b').length") == 0
        await eventually(lambda: len(str(tab.run("document.querySelector('polyline').getAttribute('points')"))) > 30)
        assert "Connections: 5 now" in str(tab.run("document.querySelector('svg').getAttribute('aria-label')"))
        loaded = json.loads(tab.run("JSON.stringify(performance.getEntriesByType('resource').map(e => e.name))"))
        assert all(url.startswith(f"http://127.0.0.1:{cluster.port}/") for url in loaded)
        tab.run("[...document.querySelectorAll('#sessions button')].find(b => b.textContent === 'Trace').click()")
        await eventually(lambda: "joined news" in tab.text("#trace-events"))
        for client in clients:
            await client.close()
        await eventually(lambda: tab.text("#total-connections") == "0")


@in_a_browser
async def test_a_restart_and_a_scale_from_the_page_by_keyboard(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster, dashboard(cluster) as tab:
        before = {worker.pid for worker in cluster.status().workers}

        def press(key: str, code: int) -> None:
            text = "\r" if key == "Enter" else ""
            for kind in ("keyDown", "keyUp"):
                tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

        def focused() -> Any:
            return tab.run("document.activeElement.id")

        while focused() != "restart-all":
            press("Tab", 9)
        press("Enter", 13)
        await eventually(lambda: tab.run("document.querySelector('#confirm').open"))
        while focused() != "yes":
            press("Tab", 9)
        press("Enter", 13)
        await eventually(lambda: before.isdisjoint(worker.pid for worker in cluster.status().workers))
        await eventually(lambda: "restart is done" in tab.text("#events"))
        tab.run("document.querySelector('#workers').value = 3; document.querySelector('#scale').requestSubmit()")
        await eventually(lambda: tab.run("document.querySelector('#confirm').open"))
        tab.run("document.querySelector('#yes').click()")
        await eventually(lambda: len(cluster.status().workers) == 3)
        drain = "document.querySelector('[aria-label=\"Drain worker-3\"]')"
        await eventually(lambda: tab.run(f"{drain}?.disabled") is False)  # the scale is over
        tab.run(f"{drain}.click()")
        await eventually(lambda: tab.run("document.querySelector('#confirm').open"))
        press("Escape", 27)  # no
        await eventually(lambda: not tab.run("document.querySelector('#confirm').open"))
        assert cluster.worker(3).state == "ready"


@in_a_browser
async def test_the_dashboard_is_light_and_dark_and_survives_an_upgrade(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster, dashboard(cluster) as tab:
        colours = set()
        for scheme in ("light", "dark"):
            tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            colours.add(tab.run("getComputedStyle(document.body).color"))
        assert len(colours) == 2
        shot = tab.call("Page.captureScreenshot")["data"]
        (tmp_path / "dashboard.png").write_bytes(base64.b64decode(shot))
        events = tab.text("#events")
        assert cluster.wsd("upgrade").returncode == 0
        await eventually(lambda: tab.text("#state") == "healthy" and tab.text("#events") != events)
