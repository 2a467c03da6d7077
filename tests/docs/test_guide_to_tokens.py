"""The guide to tokens of a login service: its login service, its settings and its programs."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import jwt
import pytest

from tests.support.cluster import Cluster, clean_env, wsd
from tests.support.pages import ROOT, blocks
from tests.support.ports import unused_port
from tests.support.waiting import until
from wsd.client import RequestError, SyncWsdClient

PAGE = ROOT / "docs" / "guides" / "jwt.md"
LIFETIME = "LIFETIME = 4"
"""Seconds for which tokens of the login service are valid here, so that a test can wait for the next one."""


@dataclass
class Machine:
    """The reader's machine: a folder with the files of the page, and the ports that are free there."""

    folder: Path
    login_port: int
    hub_port: int

    def here(self, text: str) -> str:
        """Return a text of the page with the ports of this machine."""
        text = text.replace(":9000", f":{self.login_port}").replace("--port 9000", f"--port {self.login_port}")
        return text.replace(":8000", f":{self.hub_port}").replace("LIFETIME = 300", LIFETIME)

    def write(self, *, version: int) -> None:
        """Write the files of the page. `version`: that of wsd.toml, 0 or 1."""
        shown = [block for block in blocks(PAGE) if block.title]
        settings = [block for block in shown if block.title == "wsd.toml"]
        for block in [*shown, settings[version]]:
            (self.folder / block.title).write_text(self.here(block.text), "utf-8")

    def token(self, user: str) -> str:
        """Return a token of the login service."""
        return get(f"http://127.0.0.1:{self.login_port}/token/{user}")


def get(url: str, token: str = "") -> str:
    with urlopen(Request(url, headers={"Authorization": f"Bearer {token}"}), timeout=10) as answer:
        text: str = answer.read().decode()
    return text


@contextmanager
def program(machine: Machine, *arguments: str, module: bool = False) -> Iterator[Path]:
    """Run a Python program of the page during the block, and yield the file with its output."""
    output = machine.folder / f"{arguments[0].partition(':')[0]}.txt"
    with output.open("wb") as file:
        command = [sys.executable, *(["-m"] if module else []), *arguments]
        process = subprocess.Popen(command, cwd=machine.folder, env=clean_env(), stdout=file, stderr=file)
    try:
        yield output
        assert process.poll() is None, output.read_text()
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Run the login service of the page."""
    machine = Machine(tmp_path_factory.mktemp("reader"), unused_port(), unused_port())
    machine.write(version=0)
    [command] = [block.text for block in blocks(PAGE) if block.text.startswith("uvicorn")]
    with program(machine, *machine.here(command).split(), module=True) as output:
        until(lambda: "Application startup complete" in output.read_text(), "the login service")
        yield machine


def logged(cluster: Cluster, error: str) -> bool:
    return any(f"refused a token: {error}" in cluster.log(f"worker-{slot}") for slot in (1, 2))


def signed(machine: Machine, **changes: Any) -> str:
    """Return a token that differs from one of the login service, and is signed with another key."""
    claims = {"iss": f"http://127.0.0.1:{machine.login_port}", "aud": "chat", "sub": "ann", "exp": time.time() + 60}
    return jwt.encode({**claims, **changes}, "x" * 32, "HS256", headers={"kid": "first"})


def test_a_login_service_says_who_a_user_is_and_what_the_user_may_do(machine: Machine) -> None:
    machine.write(version=0)
    said = wsd("doctor", cwd=machine.folder).stdout
    assert f"security.jwt_jwks_url: http://127.0.0.1:{machine.login_port}/jwks.json answers with first" in said
    with Cluster(machine.folder, "--workers", "2", port=machine.hub_port) as cluster:
        [publish] = [block.text for block in blocks(PAGE) if block.text.startswith("python -c '\nfrom urllib")]
        script = machine.here(publish).split("'")[1]

        def run(text: str) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-c", text]
            return subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=30)

        with program(machine, "listen.py", "bob") as output:
            until(lambda: cluster.wsd("presence", "news", "--json").stdout.count('"bob"'), "a listener")
            assert run(script).returncode == 0
            until(lambda: output.read_text() == "Ann hello\n", "the news")
            assert "forbidden: you may not publish in news" in run(script.replace("/ann", "/bob")).stderr
        asked, states = list[float](), list[str]()

        def new_token() -> str:
            asked.append(time.time())
            return machine.token("bob")

        with SyncWsdClient(cluster.url, token=new_token, on_state=lambda state: states.append(state.name)) as bob:
            bob.subscribe("group:sales")
            with pytest.raises(RequestError, match="you may not subscribe to group:editors"):
                bob.subscribe("group:editors")
            until(lambda: len(asked) > 1, "the next token")
            bob.publish("group:sales", "still here")
            assert states == ["connecting", "open"], "the connection goes on with the next token"

        for error, token in {
            "DecodeError": "opaque",
            "InvalidAlgorithmError": signed(machine),
            "InvalidKeyError": jwt.encode({"sub": "ann"}, "x" * 32, headers={"kid": "unknown"}),
        }.items():
            with SyncWsdClient(cluster.url, token=token) as stranger, pytest.raises(RequestError):
                stranger.broadcast("hi")
            until(lambda error=error: logged(cluster, error), error)  # type: ignore[misc]


def test_a_backend_gives_out_tokens_of_its_own(machine: Machine) -> None:
    machine.write(version=1)
    with Cluster(machine.folder, "backend:app", "--workers", "2", port=machine.hub_port) as cluster:
        backend = f"http://127.0.0.1:{cluster.port}"

        def ask(path: str) -> str:
            return get(f"{backend}{path}", machine.token("ann"))

        url = f"ws://127.0.0.1:{cluster.port}/live/ws"
        with SyncWsdClient(url, token=lambda: ask("/token")) as ann:
            ann.subscribe("orders:41", token=lambda: ask("/orders/41/token"))
            cluster.wsd("publish", "orders:41", json.dumps("shipped"))
            assert ann.receive(timeout=10)["data"] == "shipped"
            with pytest.raises(RequestError, match="you may not subscribe to orders:42"):
                ann.subscribe("orders:42")
        with pytest.raises(HTTPError, match="403"):
            ask("/orders/42/token")
        with pytest.raises(HTTPError, match="401"):
            get(f"{backend}/token", "opaque")
