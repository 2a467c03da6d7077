"""The dashboard: who gets in, and what one sees and does there, in a real browser."""

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.browser import CHROMIUM, Tab, chromium, open_tab
from tests.cluster.harness import Cluster
from tests.waiting import eventually, until

pytestmark = pytest.mark.anyio

DASHBOARD = "/_wsd/dashboard/"
INTENT = {"X-WSD-Dashboard": "1"}

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


def ask(
    cluster: Cluster, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; `headers` by their names with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


@contextmanager
def dashboard(cluster: Cluster) -> Iterator[Tab]:
    """The page in a browser, once it shows how the cluster is."""
    with (
        chromium(cluster.directory) as port,
        open_tab(port, f"http://127.0.0.1:{cluster.port}{DASHBOARD}") as tab,
    ):
        until(lambda: tab.text("#state") == "healthy")
        yield tab


def count(tab: Tab, selector: str) -> int:
    return int(tab.text(selector).replace(",", "").replace("\u2013", "0") or 0)


async def test_this_machine_alone_gets_in_without_a_token(cluster: Cluster) -> None:
    status, headers, page = ask(cluster, DASHBOARD)
    assert status == 200
    assert b"dashboard.js" in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert ask(cluster, DASHBOARD.rstrip("/"))[0] == 301
    for name in ("dashboard.js", "dashboard.css"):
        assert ask(cluster, DASHBOARD + name)[0] == 200
    assert json.loads(ask(cluster, f"{DASHBOARD}api/channels")[2])["complete"]
    # Through another proxy, or by a name that somebody lets point here.
    for header in ("X_Forwarded_For", "Forwarded", "Via"):
        assert ask(cluster, DASHBOARD, **{header: "x"})[0] == 403
    for path in ("", "stream", "api/sessions"):
        assert ask(cluster, DASHBOARD + path, Host="evil.example")[0] == 403
    # What only nginx may say.
    assert ask(cluster, DASHBOARD, X_Real_IP="192.0.2.1")[0] == 200
    assert ask(cluster, DASHBOARD, X_WSD_Forwarded="x")[0] == 200


async def test_another_site_cannot_press_its_buttons(cluster: Cluster) -> None:
    before = [worker.pid for worker in cluster.status().workers]
    for method, name in (("POST", "restart"), ("POST", "kick"), ("POST", "scale")):
        assert ask(cluster, f"{DASHBOARD}api/{name}", method, "{}")[0] == 403
    assert ask(cluster, f"{DASHBOARD}api/restart", Sec_Fetch_Site="cross-site")[0] == 405
    status, headers, _ = ask(cluster, f"{DASHBOARD}api/restart", "OPTIONS", Origin="http://evil.example")
    assert status == 405
    assert "access-control-allow-origin" not in headers
    assert [worker.pid for worker in cluster.status().workers] == before


async def test_nothing_else_of_the_supervisor_is_behind_it(cluster: Cluster) -> None:
    for path in ("v1/status", "../v1/status", "%2e%2e/v1/status", "..%2fv1/status", "api/stop", "api/upgrade"):
        for method in ("GET", "POST"):
            status, _, body = ask(cluster, DASHBOARD + path, method, **INTENT)
            assert status in (404, 405), (path, status)
            assert b"problems" not in body
    for path in ("/v1/stop/../..", "/v1/stop/..%2f..", "/v1/stop//../..", "/v1/stop%23/../..", "/v1/stop%3f/../.."):
        assert ask(cluster, path + DASHBOARD, "POST", "{}", **INTENT)[0] in (404, 405), path
    assert ask(cluster, f"{DASHBOARD}api/scale", "POST", '{"workers": 0}', **INTENT)[0] == 400
    assert ask(cluster, f"{DASHBOARD}api/scale", "POST", "nonsense", **INTENT)[0] == 400
    assert cluster.is_healthy()


async def test_with_a_token_it_is_asked_for(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", config='[dashboard]\ntoken = "s3cret"\n') as cluster:
        assert f"http://127.0.0.1:{cluster.port}{DASHBOARD}" in cluster.output
        status, _, page = ask(cluster, DASHBOARD)
        assert status == 401
        assert b'type="password"' in page
        assert ask(cluster, f"{DASHBOARD}api/sessions")[0] == 401
        assert b"not the token" not in page
        status, _, page = ask(cluster, f"{DASHBOARD}login", "POST", "token=wrong")
        assert status == 401
        assert b"not the token" in page
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
async def test_it_is_light_and_dark_and_outlives_the_supervisor_s_upgrade(tmp_path: Path) -> None:
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
