"""A real headless browser, controlled by the DevTools protocol."""

import http.client
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tab:
    """A page, controlled by the DevTools protocol."""

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
    """Run a headless browser, and yield its DevTools port."""
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
        port = directory / "profile" / "DevToolsActivePort"
        until(lambda: port.exists() and "\n" in port.read_text(), "chromium's port")
        yield int(port.read_text().splitlines()[0])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
