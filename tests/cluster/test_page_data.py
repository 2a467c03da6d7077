"""Data of any form, answers of any status, and a cluster that stops: the pages go on, without an exception."""

import http.client
import json
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.apps import copy_app
from tests.support.browser import CHROMIUM, Tab, chromium, watched_tab
from tests.support.cluster import Cluster
from tests.support.ports import unused_port
from tests.support.server import uvicorn
from tests.support.waiting import eventually, long_run, until

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]

KEY = "a-key-of-the-test-with-32-letters"


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


SHOWN = [
    ({"text": "plain"}, "plain"),
    ({"text": "<img src=x onerror=alert(1)>"}, "<img src=x onerror=alert(1)>"),
    ({"text": {"toString": "x"}}, '{"text":{"toString":"x"}}'),
    ({"text": ["a", "b"]}, '{"text":["a","b"]}'),
    ({"text": None}, '{"text":null}'),
    ({"text": ""}, "(empty)"),
    ({"text": 0}, '{"text":0}'),
    ({"__proto__": {"text": 1}}, '{"__proto__":{"text":1}}'),
    (None, "null"),
    (0, "0"),
    (1e300, "1e+300"),
    ("words", '"words"'),
    (True, "true"),
    ([], "[]"),
    (nested(30), "[" * 31 + "]" * 31),
    ({"text": "x" * 20_000}, "x" * 1000 + " … and 19,000 more characters"),
]
"""Messages, and the text of each on the page."""

NAMES = ["<b>bold</b>", "__proto__", "constructor", "n" * 128, "two words", "\u05e9\u05dc\u05d5\u05dd", "\U0001f980"]


def texts(tab: Tab) -> list[str]:
    """Return the messages that the page shows, oldest first."""
    shown: list[str] = tab.run("[...document.querySelectorAll('#messages li')].map((li) => li.lastChild.textContent)")
    return shown[::-1]


def publish(cluster: Cluster, *data: object) -> None:
    """Publish messages over HTTP: they come without a sender."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
    messages = [{"broadcast": True, "data": each} for each in data]
    connection.request("POST", "/api/websocket/publish", json.dumps(messages), {"X-API-Key": KEY})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def connected(tab: Tab) -> bool:
    return tab.text("#state") == "connected"


async def test_the_hub_page_shows_messages_of_any_form_as_text(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path, "--workers", "1", config=f'[security]\napi_key = "{KEY}"\n') as cluster,
        chromium(tmp_path) as port,
        watched_tab(port, f"http://127.0.0.1:{cluster.port}/") as tab,
    ):
        until(lambda: connected(tab))
        sender = await cluster.client("ann")
        for data, _ in SHOWN:
            await sender.ask(type="broadcast", data=data)
        publish(cluster, *(data for data, _ in SHOWN))
        await eventually(lambda: len(texts(tab)) == 2 * len(SHOWN))
        assert texts(tab) == [text for _, text in SHOWN] * 2
        await sender.close()
        for name in NAMES:
            other = await cluster.client(quote(name))
            await other.ask(type="broadcast", data={"text": f"from {name}"})
            await eventually(lambda name=name: texts(tab)[-1] == f"from {name}")  # type: ignore[misc]
            await other.close()
        assert tab.run("document.querySelectorAll('#messages img, #messages b b').length") == 0
        assert tab.run("document.querySelector('#messages bdi').textContent") == NAMES[-1]
        assert "server" in tab.text("#messages")
        until(lambda: "new messages" in tab.run("document.querySelector('#announcement').textContent"))
        assert tab.exceptions() == []


async def test_the_dashboard_shows_records_of_any_form(tmp_path: Path) -> None:
    app = copy_app("odd_records", tmp_path)
    with (
        uvicorn(tmp_path, app) as server,
        chromium(tmp_path) as port,
        watched_tab(port, f"http://127.0.0.1:{server}/") as tab,
    ):
        until(lambda: "this is the last" in tab.text("#events"))
        until(lambda: "the last" in tab.text("#sessions"))
        assert tab.text("#state") == "healthy"
        assert tab.run("document.querySelectorAll('#processes tr').length") == 2
        tab.run("[...document.querySelectorAll('#sessions button')].at(-2).click()")
        until(lambda: tab.text("#trace-title") == "Session of <i>, unknown")
        assert tab.run("document.querySelectorAll('td b, th b, h2 i').length") == 0
        assert tab.exceptions() == []
        streams = [url for url in tab.requested() if url.endswith("/stream")]
        assert len(streams) == 1, "an exception would have ended the stream"


@long_run
async def test_both_pages_come_back_when_the_cluster_was_stopped_and_started(tmp_path: Path) -> None:
    with chromium(tmp_path) as port:
        cluster = Cluster(tmp_path, "--workers", "1", port=unused_port())
        with cluster:
            url = cluster.status().dashboard_url
            page = watched_tab(port, f"http://127.0.0.1:{cluster.port}/")
            board = watched_tab(port, url)
            tab, dashboard = page.__enter__(), board.__enter__()
            until(lambda: connected(tab))
            until(lambda: dashboard.text("#state") == "healthy")
        until(lambda: tab.text("#state") == "reconnecting")
        until(lambda: dashboard.text("#state") == "away: reconnecting")
        assert dashboard.text("#away").startswith("The cluster does not answer.")
        assert dashboard.run("[...document.querySelectorAll('#processes button')].every((each) => each.disabled)")
        dashboard.run(
            "document.querySelector('#scale').requestSubmit(); document.querySelector('#search').requestSubmit()"
        )
        with cluster:
            await eventually(lambda: connected(tab))
            await eventually(lambda: dashboard.text("#state") == "healthy")
            assert dashboard.run("document.querySelector('#away').hidden") and tab.run(
                "document.querySelector('#detail').hidden"
            )
            until(lambda: not dashboard.run("document.querySelector('#processes button').disabled"))
            assert tab.exceptions() == dashboard.exceptions() == []
        for opened in (page, board):
            opened.__exit__(None, None, None)


@long_run
async def test_a_dashboard_whose_token_was_changed_leads_to_the_login(tmp_path: Path) -> None:
    config = '[dashboard]\ntoken = "{}"\n'
    with Cluster(tmp_path, "--workers", "1", config=config.format("first")) as cluster, chromium(tmp_path) as port:
        url = f"http://127.0.0.1:{cluster.port}/_wsd/dashboard/"
        with watched_tab(port, f"{url}?token=first") as tab:
            until(lambda: tab.text("#state") == "healthy")
            (tmp_path / "wsd.toml").write_text(config.format("second"))
            assert cluster.wsd("reload").returncode == 0
            until(lambda: tab.text("#state") == "logged out")
            tab.run("document.querySelector('#enter').click()")
            until(lambda: tab.run("document.querySelector('#token')?.type") == "password")

            def log_in(token: str) -> None:
                tab.run(f"document.querySelector('#token').value = '{token}'; document.forms[0].requestSubmit()")

            log_in("first")
            until(lambda: tab.text("#reason") == "That is not the token.")
            tab.call("Page.navigate", url=tab.run("location.href"))  # as somebody who enters the address again
            until(lambda: tab.run("document.querySelector('#token')?.type") == "password" and not tab.text("#reason"))
            log_in("second")
            until(lambda: tab.text("#state") == "healthy")
            assert tab.exceptions() == []


PRESS = {
    "restart": "document.querySelector('#restart-all').click(); yes.click()",
    "kick": "document.querySelector('[aria-label^=\"Kick \"]').click(); yes.click()",
    "trace": "document.querySelector('[aria-label^=\"Trace \"]').click()",
    "sessions": "document.querySelector('#search').requestSubmit()",  # the last: it takes the buttons away
}
ANSWERS = [
    (401, "text/plain", "the token is needed", "the token is needed"),
    (502, "text/html", "<h1>Bad Gateway</h1>", "the cluster answers with 502"),
    (400, "application/json", '{"error": "worker-1 refuses"}', "worker-1 refuses"),
    (500, "application/json", '{"error": {}}', "the cluster answers with 500"),
    (200, "application/json", "not JSON", "JSON"),
]
"""Status, media type and body of an answer, and what the page says of it."""


@long_run
async def test_requests_that_fail_say_why_and_raise_nothing(tmp_path: Path) -> None:
    app = copy_app("odd_records", tmp_path)
    with (
        uvicorn(tmp_path, app) as server,
        chromium(tmp_path) as port,
        watched_tab(port, f"http://127.0.0.1:{server}/") as tab,
    ):
        until(lambda: "this is the last" in tab.text("#events") and "the last" in tab.text("#sessions"))
        for name, press in PRESS.items():
            for status, kind, body, said in ANSWERS:
                set_answer(server, name, status, kind, body)
                tab.run(press)
                shown = "#page" if name == "sessions" else "#operation"
                until(lambda shown=shown, said=said: said in tab.text(shown))  # type: ignore[misc]
            set_answer(server, name, 200, "application/json", "null")
            before = asked(tab, name)
            tab.run(press)
            until(lambda name=name, before=before: asked(tab, name) > before)  # type: ignore[misc]
            tab.run("document.querySelectorAll('dialog[open]').forEach((dialog) => dialog.close())")
        assert tab.exceptions() == []


REFUSALS = [
    (401, "text/plain", "the token is needed", "logged out", "asks for its token again"),
    (403, "text/plain", "only from this machine\n", "closed", "closed to this browser: only from this machine."),
    (404, "text/plain", "there is no dashboard", "closed", "there is no dashboard."),
    (503, "text/plain", "32 pages are open already\n", "away: reconnecting", "32 pages are open already."),
    (502, "text/html", "<h1>Bad Gateway</h1>", "away: reconnecting", "does not answer"),
    (200, "text/event-stream", "", "away: reconnecting", "does not answer"),
    (200, "text/event-stream", 'data: {"status": {}}\n\ndata: {"sta', "away: reconnecting", "does not answer"),
]
"""Status, media type and body of the answer to the request for the stream, and the state and text of the page."""


@pytest.mark.parametrize(
    "refusal",
    [refusal if refusal[0] == 401 else pytest.param(refusal, marks=long_run) for refusal in REFUSALS],
    ids=lambda refusal: f"{refusal[0]}, {refusal[3]}",
)
async def test_a_stream_that_is_refused_or_ends_is_told(
    tmp_path: Path, refusal: tuple[int, str, str, str, str]
) -> None:
    status, kind, body, state, said = refusal
    app = copy_app("odd_records", tmp_path)
    with uvicorn(tmp_path, app) as server, chromium(tmp_path) as port:
        set_answer(server, "stream", status, kind, body)
        with watched_tab(port, f"http://127.0.0.1:{server}/") as tab:
            until(lambda: tab.text("#state") == state and said in tab.text("#away"))
            assert tab.run("document.querySelector('#enter').checkVisibility()") == (status == 401)
            set_answer(server, "stream", None)
            if state.startswith("away"):
                until(lambda: tab.text("#state") == "healthy")
                assert not tab.run("document.querySelector('#away').checkVisibility()")
            else:
                tab.run("document.querySelector('#enter').click()")
                until(lambda: tab.text("#state") == "healthy")
            assert tab.exceptions() == []


@long_run
async def test_a_dashboard_whose_cluster_stands_still_says_so(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path, "--workers", "1") as cluster,
        chromium(tmp_path) as port,
        watched_tab(port, cluster.status().dashboard_url) as tab,
    ):
        until(lambda: tab.text("#state") == "healthy")
        cluster.signal(signal.SIGSTOP)
        until(lambda: tab.text("#state") == "away: reconnecting")
        cluster.signal(signal.SIGCONT)
        until(lambda: tab.text("#state") == "healthy")
        assert tab.exceptions() == []


def asked(tab: Tab, name: str) -> int:
    return sum(f"/api/{name}" in url for url in tab.requested())


def set_answer(server: int, name: str, status: int | None, kind: str = "", body: str = "") -> None:
    """Let the server answer a request in this way, or with a status of None as it usually does."""
    connection = http.client.HTTPConnection("127.0.0.1", server, timeout=10)
    connection.request("PUT", f"/answers/{name}", json.dumps({"status": status, "kind": kind, "body": body}))
    assert connection.getresponse().status == 200
    connection.close()
