"""Programs with a client of the hub, which do what a test commands: one interface for all kinds of clients.

    with client_program("node22", tmp_path) as ann:
        ann.connect(hub.url, user_id="ann")
        ann.until_state("open")
        call = ann.do("publish", channel="room", data="hi")
        assert ann.answer(call)["ok"]["offset"] == 1

A command is an object with `do` and `call`, the number of the call. Seconds are seconds in every language.

| do | fields |
|---|---|
| connect | url, options: user_id, username, token or tokens, request_timeout, ping_interval, max_waiting, query .. |
| subscribe, unsubscribe, presence | channel, timeout?; subscribe: last?, token? or tokens?, handled? |
| publish, publish_many | channel, data, timeout?; the data of publish_many is a list, its calls are "7.0", "7.1" .. |
| broadcast, direct | data, timeout?; direct: user_id |
| history | channel, since?, limit?, reverse?, timeout? |
| delivered, mark_read | channel, position; delivered: user_id |
| publish_changed | channel; the data change after the call; not in sync |
| publish_unencodable | channel; the answer has the `codes` |
| cancel | target: a call that was made with `cancellable`; not in sync |
| reconnect, close, waiting, discard_waiting, memory, heard | |

A token "never" in `tokens` is one that never comes, and None is a failure. More options say how the program behaves:
`careless` ("throws" or "rejects"): all its callbacks fail after they have reported. `quiet`: messages are only counted,
for `heard`. `echo`: by channel, another one in which each message is published again.

An event is an object with `event` and `at`, in seconds since 1970.

| event | fields |
|---|---|
| ready | |
| state | name, reason, code, status, retry_in, failures |
| message | message |
| handled | message: the function of a channel has it, which was subscribed to with `handled` |
| gap | channel, reason |
| presence | change |
| left | channel, code |
| settled | call, and `ok` with the answer, or `code` and `text` |
| token_asked | token |
| error | text: what a callback or the token function has raised |
| uncaught | text: what nobody has caught |
| reading_ended | code: the iteration of a Python client has ended, since the server has ended the client |
"""

import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.apps import APPS
from tests.support.browser import CHROMIUM, Tab, chromium, open_tab
from tests.support.cluster import ROOT, clean_env
from tests.support.npm import NODE_MODULES
from tests.support.waiting import until

Event = dict[str, Any]

NODES = ("node20", "node22", "node24")
KINDS = (*NODES, "chromium", "asyncio", "sync")
"""All kinds of clients. A test that is parametrized over them is skipped for those that are not installed."""

BUNDLE = ROOT / "clients" / "js" / "wsd-client.js"
OLDEST_NODE = 20  # older ones have no WebSocket
POLL_SECONDS = 0.02


@functools.cache
def node_versions() -> dict[str, Path]:
    """Return the releases of Node that are here, as "node20", "node22": that on PATH, and those from npm."""
    on_path = shutil.which("node")
    from_npm = sorted(NODE_MODULES.glob("node[0-9]*/bin/node"))
    versions: dict[str, Path] = {}
    for path in ([Path(on_path)] if on_path else []) + from_npm:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        major = int(version.removeprefix("v").partition(".")[0])
        if major >= OLDEST_NODE:
            versions.setdefault(f"node{major}", path)
    return versions


class Program:
    """A client that does what a test commands. Its events come in another thread, while the test goes on."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.events: list[Event] = []
        """All events so far, in their order."""
        self._calls = 0

    def send(self, command: Event) -> None:
        """Hand a command over. Return at once."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let the client stand still, as a laptop that was closed."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Let the client run again after `stop`."""
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What the program has written besides its events."""
        return ""

    def do(self, what: str, **fields: Any) -> int:
        """Give a command, and return the number of the call. The answer comes with `answer`."""
        self._calls += 1
        self.send({"do": what, "call": self._calls, **fields})
        return self._calls

    def connect(self, url: str, **options: Any) -> None:
        """Create the client, which begins to connect."""
        assert "ok" in self.answer(self.do("connect", url=url, options=options))

    def seen(self, event: str, **fields: Any) -> list[Event]:
        """Return the events of a kind whose fields have these values."""
        return [
            each
            for each in list(self.events)
            if each["event"] == event and all(each.get(name) == value for name, value in fields.items())
        ]

    def until_seen(self, event: str, *, patience: float = 30.0, **fields: Any) -> Event:
        """Block until such an event has come, and return the latest one. In a coroutine: `eventually` with `seen`."""
        found = until(lambda: self.seen(event, **fields), f"{event} {fields} of {self.kind}", patience)
        return found[-1]

    def until_state(self, name: str, patience: float = 30.0) -> Event:
        """Block until the client is in a state, and return the event that said so."""
        until(lambda: self.states[-1:] == [name], f"{name} of {self.kind}", patience)
        return self.seen("state", name=name)[-1]

    def answer(self, call: int | str, patience: float = 30.0) -> Event:
        """Block until a call is settled, and return the event. It must be settled once only."""
        (found,) = until(lambda: self.seen("settled", call=call), f"call {call} of {self.kind}", patience)
        return found

    def ask(self, what: str, **fields: Any) -> Any:
        """Give a command and return its answer, which must be no error. Blocks."""
        settled = self.answer(self.do(what, **fields))
        assert "ok" in settled, settled
        return settled["ok"]

    def heard(self, channel: str) -> list[Any]:
        """Return the data of the messages of a channel, in the order in which they came."""
        messages = [event["message"] for event in self.seen("message")]
        return [message["data"] for message in messages if message.get("channel") == channel]

    @property
    def states(self) -> list[str]:
        return [event["name"] for event in self.seen("state")]

    @property
    def troubles(self) -> list[str]:
        """What nobody has caught, and what was written besides the events. A good client has none."""
        return [event["text"] for event in self.seen("uncaught")] + ([self.log] if self.log else [])


class ProcessProgram(Program):
    """A client in a process of its own, which speaks by stdin and stdout."""

    def __init__(self, kind: str, command: list[str], directory: Path) -> None:
        super().__init__(kind)
        self._log = directory / f"{kind}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=clean_env(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._stdin: IO[str] = self.process.stdin
        self._reading = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reading.start()

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self.events.append(json.loads(line))

    def send(self, command: Event) -> None:
        self._stdin.write(json.dumps(command) + "\n")
        self._stdin.flush()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self._reading.join(10)
        self._stdin.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


class PageProgram(Program):
    """A client in a page of Chromium. Its events are fetched again and again."""

    def __init__(self, kind: str, tab: Tab) -> None:
        super().__init__(kind)
        self._tab = tab
        self._lock = threading.Lock()
        self._ended = threading.Event()
        until(lambda: tab.run("typeof globalThis.command") == "function", "the script of the page")
        self._fetching = threading.Thread(target=self._fetch, daemon=True)
        self._fetching.start()

    def _fetch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            with self._lock:
                self.events.extend(self._tab.run("globalThis.takeEvents()") or [])

    def send(self, command: Event) -> None:
        with self._lock:
            self._tab.run(f"globalThis.command({json.dumps(command)})")

    def devtools(self, method: str, **parameters: Any) -> Any:
        """Call a method of the DevTools protocol."""
        with self._lock:
            return self._tab.call(method, **parameters)

    def stop(self) -> None:
        """Freeze the page, as a browser freezes one that was in the background for long."""
        self.devtools("Page.setWebLifecycleState", state="frozen")

    def go_on(self) -> None:
        self.devtools("Page.setWebLifecycleState", state="active")

    def set_offline(self, offline: bool) -> None:
        """Take the network from the page, or give it back. The page is told so, as by an operating system."""
        self.devtools("Network.enable")
        self.devtools(
            "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def end(self) -> None:
        self._ended.set()
        self._fetching.join(30)


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line of log for each request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        pass


@contextmanager
def files_served(directory: Path) -> Iterator[str]:
    """Serve a directory over HTTP, and yield its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietFiles, directory=directory))
    serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def javascript_files(directory: Path) -> Path:
    """Copy the program in JavaScript and the client into a directory, and return it."""
    if not BUNDLE.exists():
        pytest.skip(f"{BUNDLE.relative_to(ROOT)} is not built")
    own = directory / "conformance"
    own.mkdir(exist_ok=True)
    shutil.copy(BUNDLE, own / "wsd-client.mjs")
    shutil.copy(APPS / "conformance_client.mjs", own)
    page = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="conformance_client.mjs"></script>'
    (own / "index.html").write_text(page, "utf-8")
    return own


def command_of(kind: str, directory: Path) -> list[str]:
    """Return the command that runs a client in a process. Skips the test where that kind is not installed."""
    if kind in NODES:
        node = node_versions().get(kind)
        if node is None:
            pytest.skip(f"{kind} is not here: run `npm ci --prefix tests/npm`")
        options = ["--experimental-websocket", "--no-warnings"] if kind == "node20" else []
        return [str(node), "--expose-gc", *options, str(javascript_files(directory) / "conformance_client.mjs")]
    return [sys.executable, "-m", f"tests.apps.conformance_{kind}"]


@contextmanager
def client_program(kind: str, directory: Path, browser: int | None = None) -> Iterator[Program]:
    """Run a client of a kind until the block ends. The block begins once the program takes commands.

    `browser`: the DevTools port of a Chromium that runs already, as `chromium` yields it. Otherwise a page gets one of
    its own. In a coroutine the start blocks the event loop for a moment: start programs before the servers of the test.
    """
    if kind == "chromium":
        if CHROMIUM is None:
            pytest.skip("no chromium on PATH")
        if browser is None:
            own = directory / f"chromium-{time.monotonic_ns()}"
            own.mkdir()
            with chromium(own) as port, client_program(kind, directory, port) as program:
                yield program
            return
        with files_served(javascript_files(directory)) as url, open_tab(browser, f"{url}/index.html") as tab:
            page = PageProgram(kind, tab)
            try:
                yield page
            finally:
                page.end()
        return
    process = ProcessProgram(kind, command_of(kind, directory), directory)
    try:
        until(lambda: process.seen("ready") or process.process.poll() is not None, f"the start of {kind}")
        assert process.process.poll() is None, process.log
        yield process
    finally:
        process.end()
