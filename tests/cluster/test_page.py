"""The page to try it with, in a real browser. Skipped where there is none."""

import base64
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, Tab, chromium, open_tab
from tests.support.cluster import Cluster
from tests.support.waiting import eventually, long_run, until
from wsd.client import WsdClient

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]


def wait_until_connected(tab: Tab) -> str:
    """Wait until the page is connected, and return the id of its worker."""
    until(lambda: tab.run("document.querySelector('#state')?.dataset.state") == "open", "a connected page")
    return tab.text("#worker")


def say(tab: Tab, text: str) -> None:
    tab.run(f"document.querySelector('#text').value = {text!r}; document.querySelector('#form').requestSubmit()")


def test_two_tabs_on_two_workers_talk_to_each_other(cluster: Cluster, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{cluster.port}/"
    with chromium(tmp_path) as port, open_tab(port, url) as one, open_tab(port, url) as two:
        here, there = wait_until_connected(one), wait_until_connected(two)
        for _ in range(20):
            if here != there:
                break
            two.run("document.querySelector('#reconnect').click()")
            there = wait_until_connected(two)
        assert here != there
        assert {here, there} <= {worker.worker_id for worker in cluster.status().workers}
        say(one, "hello <b>there</b>")
        until(lambda: "hello <b>there</b>" in two.text("#messages"), "the message in the other tab")
        assert f"via {here}" in two.text("#messages")
        shot = two.call("Page.captureScreenshot")["data"]
        (tmp_path / "page.png").write_bytes(base64.b64decode(shot))


@long_run
async def test_the_page_loses_nothing_while_its_worker_is_killed(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path, "--workers", "2") as running,
        chromium(tmp_path) as port,
        open_tab(port, f"http://127.0.0.1:{running.port}/") as tab,
    ):
        wait_until_connected(tab)
        said = [f"number {number}." for number in range(150)]
        async with WsdClient(f"ws://127.0.0.1:{running.port}/ws", "talker") as talker:
            for number, text in enumerate(said):
                if number % 50 == 25:
                    before = tab.text("#worker")
                    await running.kill_worker(before)
                    await eventually(lambda before=before: tab.text("#worker") not in ("", before))  # type: ignore[misc]
                await talker.broadcast({"text": text})
        await eventually(lambda: tab.run("document.querySelectorAll('#messages li').length") >= len(said))
        heard = str(
            tab.run("[...document.querySelectorAll('#messages li')].map(i => i.lastChild.textContent).join('|')")
        )
        assert heard.split("|")[::-1] == said
