"""What the pages may load and run, wherever they are served: at the root, under a prefix, and with TLS."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.apps import copy_app
from tests.support.browser import CHROMIUM, Tab, chromium, watched_tab
from tests.support.cluster import Cluster
from tests.support.waiting import until
from wsd.supervisor.control.dashboard import FILES as DASHBOARD_FILES
from wsd.worker.endpoints.hub_page import FILES as HUB_FILES

DASHBOARD = "/_wsd/dashboard/"
HUB_PATHS = ["/", *(f"/{name}" for name in HUB_FILES)]
DASHBOARD_PATHS = [DASHBOARD, *(f"{DASHBOARD}{name}" for name in ("login", "stream", "api/sessions", *DASHBOARD_FILES))]

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with chromium(tmp_path_factory.mktemp("browser"), "--ignore-certificate-errors") as port:
        yield port


def assert_clean(tab: Tab) -> None:
    """Check that all requests were answered, and that the page broke no rule of its policy and raised nothing."""
    assert {url: status for url, status in tab.answers().items() if status not in (101, 200, 303)} == {}
    assert any(url.endswith("favicon.svg") for url in tab.answers())
    assert tab.run("violations") == []
    assert tab.exceptions() == []


INTRUDE = """
globalThis.ran = [];
const script = document.createElement("script");
script.textContent = "ran.push('a script within the page')";
const image = document.createElement("img");
image.setAttribute("onerror", "ran.push('an attribute')");
image.src = "data:,";
const link = document.createElement("a");
link.href = "javascript:ran.push('a link')";
const foreign = document.createElement("script");
foreign.src = "data:text/javascript,ran.push('a script from elsewhere')";
const style = document.createElement("style");
style.textContent = "body { display: none }";
document.body.append(script, image, link, foreign, style);
link.click();
fetch("http://127.0.0.2:9/").catch(() => 0);
"""
WANTED = {"script-src-elem", "script-src-attr", "style-src-elem", "img-src", "connect-src"}


@in_a_browser
@pytest.mark.parametrize("page", ["hub", "dashboard", "login"])
def test_a_page_runs_no_script_that_somebody_brought_in(cluster: Cluster, browser: int, page: str) -> None:
    urls = {
        "hub": f"http://127.0.0.1:{cluster.port}/",
        "dashboard": cluster.status().dashboard_url,
        "login": f"http://localhost:{cluster.port}{DASHBOARD}",
    }
    with watched_tab(browser, urls[page]) as tab:
        if page == "login":
            assert tab.answers().pop(urls["login"]) == 401
            assert tab.run("violations") == tab.exceptions() == []
        else:
            state = "connected" if page == "hub" else "healthy"
            until(lambda: tab.text("#state") == state)
            assert_clean(tab)
        tab.run(INTRUDE)
        until(lambda: {text.split()[0] for text in tab.run("violations")} >= WANTED)
        assert tab.run("ran") == []
        assert tab.run("getComputedStyle(document.body).display") != "none"


@pytest.mark.parametrize("path", [*HUB_PATHS, *DASHBOARD_PATHS])
def test_every_answer_says_what_it_may_be_used_for(cluster: Cluster, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert answer.status in ((200,) if path not in DASHBOARD_PATHS[:4] else (303, 401))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "form-action")} == {"'self'"}
    assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers.get_all("Referrer-Policy") == ["same-origin"]
    assert answer.headers["Cache-Control"] in ("no-cache", "no-store")
    connection.close()


@in_a_browser
def test_an_application_may_have_the_hub_below_a_path(tmp_path: Path, browser: int) -> None:
    app = copy_app("mounted_hub", tmp_path)
    with Cluster(tmp_path, "--workers", "1", "--app", app) as cluster:
        for path in ("/live/", "/live", "/live/?a=b#c"):
            with watched_tab(browser, f"http://127.0.0.1:{cluster.port}{path}") as tab:
                until(lambda tab=tab: tab.text("#state") == "connected")  # type: ignore[misc]
                assert [url for url in tab.answers() if "/live" not in url] == []
                assert {status for status in tab.answers().values() if status >= 400} == set()
                assert tab.run("violations") == tab.exceptions() == []


@in_a_browser
def test_both_pages_work_with_tls(tmp_path: Path, browser: int) -> None:
    leaf = trustme.CA().issue_cert("localhost", "127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    config = '[nginx]\ntls_certificate = "cert.pem"\ntls_key = "key.pem"\n'
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        url = cluster.status().dashboard_url
        assert url.startswith("https://")
        for page, state in ((f"https://127.0.0.1:{cluster.port}/", "connected"), (url, "healthy")):
            with watched_tab(browser, page) as tab:
                until(lambda tab=tab, state=state: tab.text("#state") == state)  # type: ignore[misc]
                assert_clean(tab)
                sockets = [event["url"] for event in tab.events("Network.webSocketCreated")]
                assert all(each.startswith("wss://") for each in sockets), json.dumps(sockets)
                assert len(sockets) == (state == "connected")
