"""A real headless browser, controlled by the DevTools protocol."""

import base64
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
        self._seen: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> Any:
        self._id += 1
        self._connection.send(json.dumps({"id": self._id, "method": method, "params": parameters}))
        while (answer := json.loads(self._connection.recv(30))).get("id") != self._id:
            self._seen.append(answer)
        return answer["result"]

    def run(self, script: str) -> Any:
        """Return the value of an expression, and of its promise if it is one."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({selector!r})?.innerText ?? ''"))

    def watch(self) -> None:
        """Let the browser report exceptions, violations of the policy, and answers to requests from now on."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        # Whoever listens before the page's scripts run hears of all violations.
        source = "globalThis.violations = []; addEventListener('securitypolicyviolation', (event) => violations.push("
        source += "`${event.effectiveDirective} ${event.blockedURI}`))"
        self.call("Page.addScriptToEvaluateOnNewDocument", source=source)

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        until(lambda: self.run("location.href !== 'about:blank' && document.readyState === 'complete'"), url)

    def events(self, method: str) -> list[dict[str, Any]]:
        """Return what the browser has reported under this name of the protocol."""
        self.run("0")
        return [event["params"] for event in self._seen if event.get("method") == method]

    def exceptions(self) -> list[str]:
        """Return what the scripts of the page raised or wrote as an error."""
        raised = [event["exceptionDetails"] for event in self.events("Runtime.exceptionThrown")]
        found = [each.get("exception", {}).get("description", each["text"]) for each in raised]
        written = [event["args"] for event in self.events("Runtime.consoleAPICalled") if event["type"] == "error"]
        return found + [" ".join(str(each.get("value", each.get("description"))) for each in args) for args in written]

    def requested(self) -> list[str]:
        """Return the URL of each request, in this order."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def answers(self) -> dict[str, int]:
        """Return the status of each answer by its URL."""
        answers = [event["response"] for event in self.events("Network.responseReceived")]
        return {answer["url"]: answer["status"] for answer in answers}

    def look(self, *, width: int, scheme: str) -> None:
        """Give the page a width and a colour scheme, as a visitor without moving pictures has them."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in features.items()])

    def screenshot(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(shot))


@contextmanager
def watched_tab(port: int, url: str) -> Iterator[Tab]:
    """Open a page in a tab that is watched from its first request on."""
    with open_tab(port, "about:blank") as tab:
        tab.watch()
        tab.go(url)
        yield tab


@contextmanager
def open_tab(port: int, url: str) -> Iterator[Tab]:
    browser = http.client.HTTPConnection("127.0.0.1", port)
    browser.request("PUT", f"/json/new?{url}")
    target = json.loads(browser.getresponse().read())
    browser.close()
    with connect(target["webSocketDebuggerUrl"], max_size=None, compression=None) as connection:
        yield Tab(connection)


@contextmanager
def chromium(directory: Path, *options: str) -> Iterator[int]:
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
                *options,
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
