"""The client in JavaScript hears from the browser that the network is back, and that its page goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, Tab, chromium, open_tab
from tests.support.ports import unused_port
from tests.support.waiting import until
from tests.support.worker import worker

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")

# With the longest pauses, the client is about to wait for 4 seconds after its fourth failure.
CLIENT = """
Math.random = () => 0.999;
import("/client.js").then(({ WsdClient }) => {
  globalThis.states = [];
  globalThis.client = new WsdClient("ws://127.0.0.1:%d/ws");
  client.onstate = (name) => states.push(name);
});
"""


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """Open a page whose client waits for 4 seconds, because nobody listens on its port."""
    port = unused_port()
    with (
        worker(tmp_path, listen=f"127.0.0.1:{port}"),
        chromium(tmp_path) as browser,
        open_tab(browser, f"http://127.0.0.1:{port}/health") as opened,
    ):
        until(lambda: opened.run("location.pathname === '/health' && document.readyState === 'complete'"))
        opened.run(CLIENT % unused_port())
        until(lambda: opened.run("globalThis.client?.state.retryIn > 3000"), "a client that waits")
        yield opened


def be_offline(tab: Tab, offline: bool) -> None:
    tab.call("Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    until(lambda: tab.run("navigator.onLine") is not offline)


def states(tab: Tab) -> list[str]:
    return list(json.loads(tab.run("JSON.stringify(states)")))


def listeners(tab: Tab) -> Any:
    """Return the names of the events that the page listens to."""
    names = "[...Object.keys(getEventListeners(window)), ...Object.keys(getEventListeners(document))]"
    answer = tab.call("Runtime.evaluate", expression=names, includeCommandLineAPI=True, returnByValue=True)
    return answer["result"]["value"]


def test_a_client_tries_at_once_when_the_network_is_back(tab: Tab) -> None:
    before = states(tab)
    be_offline(tab, True)
    be_offline(tab, False)
    until(lambda: states(tab)[len(before) :] == ["connecting", "waiting"], patience=2)


def test_a_client_tries_at_once_when_its_frozen_page_goes_on(tab: Tab) -> None:
    before = states(tab)
    tab.call("Page.setWebLifecycleState", state="frozen")
    tab.call("Page.setWebLifecycleState", state="active")
    until(lambda: states(tab)[len(before) :] == ["connecting", "waiting"], patience=2)


def test_a_closed_client_listens_to_nothing(tab: Tab) -> None:
    assert set(listeners(tab)) == {"online", "pageshow", "visibilitychange", "resume"}
    tab.run("client.close()")
    assert listeners(tab) == []
    before = states(tab)
    be_offline(tab, True)
    be_offline(tab, False)
    assert (before[-1], states(tab)) == ("closed", before)
