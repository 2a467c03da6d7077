"""All pages in their states, judged by axe-core in a light and a dark form, on a phone and on a desk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accessibility import faults
from tests.support.apps import copy_app
from tests.support.browser import CHROMIUM, Tab, chromium, watched_tab
from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient
from tests.support.server import uvicorn
from tests.support.waiting import eventually, long_run, until

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]

SECRET = "0123456789abcdef0123456789abcdef"
LONG = "a-name-that-no-line-can-hold:" + "x" * 99


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with chromium(tmp_path_factory.mktemp("browser")) as port:
        yield port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), "--workers", "2") as running:
        yield running


def hub(cluster: Cluster) -> str:
    return f"http://127.0.0.1:{cluster.port}/"


def dashboard(cluster: Cluster) -> str:
    return f"{hub(cluster)}_wsd/dashboard/"


async def talkative(cluster: Cluster, user_id: str) -> HubClient:
    client = await cluster.client(user_id)
    for channel in ("news", LONG):
        await client.ask(type="subscribe", channel=channel)
    return client


def unnamed(tab: Tab) -> list[str]:
    """Return the buttons whose name does not contain what they show: nobody could tell a computer to press them."""
    found: list[str] = tab.run(UNNAMED)
    return found


UNNAMED = """
[...document.querySelectorAll("button")]
  .filter((each) => !(each.getAttribute("aria-label") ?? each.textContent).includes(each.textContent))
  .map((each) => each.outerHTML)
"""
COUNT_SPOKEN = """
globalThis.spoken = [];
for (const live of document.querySelectorAll("[role=status], [role=alert], [aria-live], output")) {
  const counting = new MutationObserver(() => spoken.push(live.id));
  counting.observe(live, { subtree: true, childList: true, characterData: true });
}
"""
SHEET = """
globalThis.style = (css) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [sheet];
}
"""
SPOILED = [
    ("document.querySelector('label[for=text]').remove()", "label"),
    ("document.querySelector('main').replaceWith(...document.querySelector('main').children)", "region"),
    ("style('h2 { color: #888 }')", "color-contrast"),
    ("user.textContent = 'x'.repeat(500); style('dd { overflow-wrap: normal }')", "wider than the window"),
]
"""Scripts that spoil the hub page, and what the audit must say of each."""


async def test_the_audit_finds_what_is_wrong(cluster: Cluster, browser: int) -> None:
    with watched_tab(browser, hub(cluster)) as tab:
        until(lambda: tab.text("#state") == "connected")
        assert faults(tab) == []
        tab.run(SHEET)
        for spoil, name in SPOILED:
            tab.run(spoil)
            assert any(name in fault for fault in faults(tab)), name


async def test_the_hub_page_can_be_used_by_everybody_in_each_of_its_states(cluster: Cluster, browser: int) -> None:
    with watched_tab(browser, hub(cluster)) as tab:
        until(lambda: tab.text("#state") == "connected")
        assert faults(tab) == []
        talker = await cluster.client("n" * 128)
        for text in ("hello", "x" * 3000, "two\nlines", "\u05e9\u05dc\u05d5\u05dd"):
            await talker.ask(type="broadcast", data={"text": text})
        await talker.close()
        until(lambda: tab.run("document.querySelectorAll('#messages li').length") == 4)
        assert faults(tab) == []
        tab.run(
            "document.querySelector('#text').value = 'x'.repeat(2e6); document.querySelector('#form').requestSubmit()"
        )
        await eventually(lambda: tab.run("document.querySelector('#messages .trouble')") is not None)
        await eventually(lambda: tab.text("#state") == "connected")  # it was closed with 1009
        assert faults(tab) == []
        assert cluster.wsd("kick", tab.text("#user")).returncode == 0
        await eventually(lambda: tab.text("#state") == "closed")
        assert "4500" in tab.text("#detail")
        assert faults(tab) == []
        assert unnamed(tab) == []
        tab.run("document.querySelector('#reconnect').click()")
        await eventually(lambda: tab.text("#state") == "connected")
        assert tab.exceptions() == []


@long_run
async def test_the_hub_page_that_asks_for_a_token_can_be_used_by_everybody(tmp_path: Path, browser: int) -> None:
    config = f'[security]\njwt_secret = "{SECRET}"\n'
    with (
        Cluster(tmp_path, "--workers", "1", config=config) as cluster,
        watched_tab(browser, hub(cluster)) as tab,
    ):
        until(lambda: tab.run("document.querySelector('#entrance').checkVisibility()"))
        assert tab.run("document.activeElement.id") == "token"
        assert tab.run("document.querySelector('#refused').textContent") == "a token is missing"
        assert faults(tab) == []


async def test_the_login_can_be_used_by_everybody(cluster: Cluster, browser: int) -> None:
    for query in ("", "?token=wrong"):
        with watched_tab(browser, f"http://localhost:{cluster.port}/_wsd/dashboard/{query}") as tab:
            assert tab.run("document.activeElement.id") == "token"
            assert tab.text("#reason") == ("That is not the token." if query else "")
            assert faults(tab) == []


@long_run
async def test_the_dashboard_can_be_used_by_everybody_in_each_of_its_states(tmp_path: Path, browser: int) -> None:
    with Cluster(tmp_path, "--workers", "2", config='[dashboard]\ntoken = "first"\n') as cluster:
        clients = [await talkative(cluster, name) for name in ("ann", LONG, "\u05e9\u05dc\u05d5\u05dd")]
        with watched_tab(browser, f"{dashboard(cluster)}?token=first") as tab:
            await eventually(lambda: LONG in tab.text("#sessions") and LONG in tab.text("#channels"))
            assert faults(tab) == []
            assert unnamed(tab) == []
            tab.run("document.querySelector('[aria-label^=\"Trace \"]').click()")
            await eventually(lambda: tab.run("document.querySelector('#trace').open"))
            assert faults(tab) == []
            tab.run(
                "document.querySelector('#trace').close(); document.querySelector('[aria-label^=\"Kick \"]').click()"
            )
            await eventually(lambda: tab.run("document.querySelector('#confirm').open"))
            assert tab.run("document.activeElement.textContent") == "Cancel"
            assert faults(tab) == []
            tab.run("document.querySelector('#confirm').close()")
            for client in clients:
                await client.close()
            (tmp_path / "wsd.toml").write_text('[dashboard]\ntoken = "second"\n')
            assert cluster.wsd("reload").returncode == 0
            await eventually(lambda: tab.text("#state") == "logged out")
            assert faults(tab) == []
            assert tab.exceptions() == []


@long_run
async def test_the_dashboard_with_odd_names_and_a_failed_request_can_be_used_by_everybody(
    tmp_path: Path, browser: int
) -> None:
    app = copy_app("odd_records", tmp_path)  # it knows no operation, and answers each with a status of 500
    with uvicorn(tmp_path, app) as server, watched_tab(browser, f"http://127.0.0.1:{server}/") as tab:
        until(lambda: "this is the last" in tab.text("#events") and "the last" in tab.text("#sessions"))
        tab.run("document.querySelector('#restart-all').click(); yes.click()")
        until(lambda: tab.run("document.querySelector('#operation').className") == "error")
        assert tab.text("#operation") == "Internal Server Error"
        assert faults(tab) == []
        assert unnamed(tab) == []


@long_run
async def test_the_dashboard_does_not_read_its_figures_aloud(cluster: Cluster, browser: int) -> None:
    cluster_url = cluster.status().dashboard_url
    with watched_tab(browser, cluster_url) as tab:
        until(lambda: tab.text("#state") == "healthy")
        tab.run(COUNT_SPOKEN)
        shown = tab.run("document.querySelector('#where').textContent")
        for _ in range(3):
            until(lambda shown=shown: tab.run("document.querySelector('#where').textContent") != shown)  # type: ignore[misc]
            shown = tab.run("document.querySelector('#where').textContent")
        assert set(tab.run("spoken")) <= {"page"}  # the number of sessions, when it has changed


@long_run
async def test_tab_moves_through_the_hub_page_in_the_order_that_is_seen(cluster: Cluster, browser: int) -> None:
    with watched_tab(browser, hub(cluster)) as tab:
        until(lambda: tab.text("#state") == "connected")
        seen = []
        for _ in range(3):
            seen.append(tab.run("document.activeElement.id || document.activeElement.textContent"))
            assert tab.run("getComputedStyle(document.activeElement).outlineStyle") != "none" or not seen[1:]
            for kind in ("keyDown", "keyUp"):
                tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        assert seen == ["text", "Send", "reconnect"]


@long_run
async def test_nothing_moves_for_visitors_who_want_no_motion(cluster: Cluster, browser: int) -> None:
    moving = "[...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).transitionDuration !== '0s').length"
    for url in (hub(cluster), cluster.status().dashboard_url, f"http://localhost:{cluster.port}/_wsd/dashboard/"):
        with watched_tab(browser, url) as tab:
            assert tab.run(moving) > 0
            tab.look(width=1280, scheme="light")
            assert tab.run(moving) == 0
