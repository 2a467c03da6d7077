"""The page to try it with, in a real browser. Skipped where there is none."""

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.cluster.harness import Cluster
from tests.cluster.test_clients import client_module, kill_worker
from tests.waiting import eventually, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]


class Tab:
    """One page, spoken to through the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._id = 0

    def call(self, method: str, **parameters: Any) -> Any:
        self._id += 1
        self._connection.send(json.dumps({"id": self._id, "method": method, "params": parameters}))
        while (answer := json.loads(self._connection.recv(30))).get("id") != self._id:
            pass
        return answer["result"]

    def run(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({selector!r})?.innerText ?? ''"))

    def wait_until_connected(self) -> str:
        """The worker's id, once there is one."""
        until(lambda: self.run("document.querySelector('#state')?.dataset.state") == "open", "a connected page")
        return self.text("#worker")

    def say(self, text: str) -> None:
        self.run(f"document.querySelector('#text').value = {text!r}; document.querySelector('#form').requestSubmit()")


@contextmanager
def open_tab(port: int, url: str) -> Iterator[Tab]:
    browser = http.client.HTTPConnection("127.0.0.1", port)
    browser.request("PUT", f"/json/new?{url}")
    target = json.loads(browser.getresponse().read())
    browser.close()
    with connect(target["webSocketDebuggerUrl"], max_size=None, compression=None) as connection:
        yield Tab(connection)


@contextmanager
def chromium(directory: Path) -> Iterator[int]:
    """A headless browser; yields its DevTools port."""
    assert CHROMIUM is not None
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-proxy-server",
                "--remote-debugging-port=0",
                f"--user-data-dir={directory / 'profile'}",
                "about:blank",
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        told = directory / "profile" / "DevToolsActivePort"
        until(lambda: told.exists() and "\n" in told.read_text(), "chromium's port")
        yield int(told.read_text().splitlines()[0])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def test_two_tabs_on_two_workers_talk_to_each_other(cluster: Cluster, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{cluster.port}/"
    with chromium(tmp_path) as port, open_tab(port, url) as one, open_tab(port, url) as two:
        here, there = one.wait_until_connected(), two.wait_until_connected()
        for _ in range(20):
            if here != there:
                break
            two.run("document.querySelector('#reconnect').click()")
            there = two.wait_until_connected()
        assert here != there
        assert {here, there} <= {worker.worker_id for worker in cluster.status().workers}
        one.say("hello <b>there</b>")
        until(lambda: "hello <b>there</b>" in two.text("#messages"), "the message in the other tab")
        assert f"via {here}" in two.text("#messages")
        shot = two.call("Page.captureScreenshot")["data"]
        (tmp_path / "page.png").write_bytes(base64.b64decode(shot))


def test_the_page_comes_back_by_itself_when_its_worker_dies(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path, "--workers", "2") as running,
        chromium(tmp_path) as port,
        open_tab(port, f"http://127.0.0.1:{running.port}/") as tab,
    ):
        before = tab.wait_until_connected()
        (pid,) = [worker.pid for worker in running.status().workers if worker.worker_id == before]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: tab.text("#worker") not in ("", before), "another worker")
        assert tab.wait_until_connected() != before


async def test_the_page_loses_nothing_while_its_worker_is_killed(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path, "--workers", "2") as running,
        chromium(tmp_path) as port,
        open_tab(port, f"http://127.0.0.1:{running.port}/") as tab,
    ):
        tab.wait_until_connected()
        said = [f"number {number}." for number in range(150)]
        async with client_module().WsdClient(f"ws://127.0.0.1:{running.port}/ws", "talker") as talker:
            for number, text in enumerate(said):
                if number % 50 == 25:
                    before = tab.text("#worker")
                    await kill_worker(running, before)
                    await eventually(lambda before=before: tab.text("#worker") not in ("", before))  # type: ignore[misc]
                await talker.broadcast({"text": text})
        await eventually(lambda: tab.run("document.querySelectorAll('#messages li').length") >= len(said))
        heard = str(tab.run("[...document.querySelectorAll('#messages li')].map(i => i.lastChild.data).join('|')"))
        assert heard.split("|")[::-1] == said
