"""nginx and HAProxy in front of two nodes, with the configurations that docs/guides/tls.md shows."""

import asyncio
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect

from tests.support.apps import copy_app
from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient
from tests.support.nginx import NGINX_AROUND
from tests.support.pages import ROOT, blocks
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import long_run, until
from wsd.supervisor.services.nginx_program import find_binary

pytestmark = [pytest.mark.anyio, long_run]

PAGE = ROOT / "docs" / "guides" / "tls.md"

FILES = {"nginx": "/etc/nginx/conf.d/wsd.conf", "haproxy": "/etc/haproxy/haproxy.cfg", "tcp": "/etc/haproxy/tcp.cfg"}
"""The file that each configuration of the page begins with, in a comment."""

TRUSTED = '[nginx]\ntrusted_proxies = ["127.0.0.1"]\n'


def shown(name: str) -> str:
    """Return the configuration of the page for a load balancer."""
    (found,) = [block.text for block in blocks(PAGE) if block.text.startswith(f"# {FILES[name]}\n")]
    return found


class Certificate:
    """A certificate for localhost, in the files that wsd, nginx and HAProxy want."""

    def __init__(self, directory: Path) -> None:
        self.chain, self.key, self.both = (directory / f"{name}.pem" for name in ("chain", "key", "both"))
        authority = trustme.CA()
        leaf = authority.issue_cert("localhost", "127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(self.chain)
        leaf.private_key_pem.write_to_path(self.key)
        leaf.private_key_and_cert_chain_pem.write_to_path(self.both)
        self.trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.trust)


class Balancer:
    """A load balancer, as clients reach it."""

    def __init__(self, port: int, plain_port: int, certificate: Certificate) -> None:
        self.port, self.plain_port, self.certificate = port, plain_port, certificate

    async def open(self, query: str = "", path: str = "/ws") -> ClientConnection:
        url = f"wss://localhost:{self.port}{path}?{query}"
        return await connect(url, ssl=self.certificate.trust, host="127.0.0.1", ping_interval=None)

    def get(self, path: str, *options: str, plain: bool = False) -> str:
        """Return what curl prints for a GET request."""
        url = f"http://127.0.0.1:{self.plain_port}" if plain else f"https://127.0.0.1:{self.port}"
        command = ["curl", "--silent", "--insecure", *options, f"{url}{path}"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def serves(self) -> bool:
        return self.get("/health", "--write-out", "%{http_code}", "--output", "/dev/null") == "200"


@contextmanager
def balancer(name: str, directory: Path, ports: list[int], certificate: Certificate) -> Iterator[Balancer]:
    """Run a load balancer with the configuration of the page, in which ports and files are those of this machine."""
    door = Balancer(unused_port(), unused_port(), certificate)
    places = {
        r"/etc/haproxy/chat\.example\.com\.pem": str(certificate.both),
        r"/etc/letsencrypt/live/chat\.example\.com/fullchain\.pem": str(certificate.chain),
        r"/etc/letsencrypt/live/chat\.example\.com/privkey\.pem": str(certificate.key),
        r"\b(listen|bind) :?443": rf"\1 127.0.0.1:{door.port}",
        r"\b(listen|bind) :?80": rf"\1 127.0.0.1:{door.plain_port}",
    }
    text = shown(name)
    for number, node in enumerate(ports, start=1):
        text, count = re.subn(rf"10\.0\.0\.{number}:(8000|443)", f"127.0.0.1:{node}", text)
        assert count == 1
    for pattern, place in places.items():
        text = re.sub(pattern, place, text)
    file = directory / f"{name}.conf"
    if name == "nginx":
        file.write_text("daemon off;" + NGINX_AROUND.format(directory=directory, shown=text))
        command = [str(find_binary("")), "-c", str(file), "-p", str(directory)]
    else:
        file.write_text(text)
        command = ["haproxy", "-db", "-f", str(file)]
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: door.serves() or process.poll() is not None)
        assert process.poll() is None, (directory / f"{name}.log").read_text()
        yield door
    finally:
        process.terminate()
        process.wait(10)


def need(name: str) -> None:
    if name != "nginx" and shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
async def test_no_handshake_fails_while_a_node_behind_a_load_balancer_stops(tmp_path: Path, name: str) -> None:
    need(name)
    for node in ("a", "b"):
        (tmp_path / node).mkdir()
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        Cluster(tmp_path / "a", "--workers", "1", "--redis-url", url, "--node-id", "a", config=TRUSTED) as a,
        Cluster(tmp_path / "b", "--workers", "1", "--redis-url", url, "--node-id", "b", config=TRUSTED) as b,
        balancer(name, tmp_path, [a.port, b.port], Certificate(tmp_path)) as door,
    ):
        clients = [HubClient(f"user{number}") for number in range(8)]
        for client in clients:
            await client.connect(door)
            await client.ask(type="subscribe", channel="room")
        assert {client.welcome["node_id"] for client in clients} == {"a", "b"}
        stopping = asyncio.create_task(a.run("stop"))
        handshakes = 0
        while not stopping.done():
            visitor = HubClient("visitor")
            await visitor.connect(door)
            await visitor.close()
            handshakes += 1
        await stopping
        assert handshakes > 3
        for client in clients:
            if client.welcome["node_id"] == "a":
                await client.connection.wait_closed()
                assert client.connection.close_code == 1012
                assert (await client.connect(door))["resumed"]
        assert {client.welcome["node_id"] for client in clients} == {"b"}
        await clients[0].ask(type="publish", channel="room", data="all")
        for client in clients[1:]:
            assert (await client.next_message())["data"] == "all"
        with Cluster(tmp_path / "a", *a.arguments[:-2], port=a.port, config=TRUSTED):
            async with asyncio.timeout(20):  # a node that is back gets clients again
                while (await (back := HubClient("back")).connect(door))["node_id"] != "a":
                    await back.close()
            await back.close()
        for client in clients:
            await client.close()


FORGED = ("--header", "X-Forwarded-For: 192.0.2.66", "--header", "X-Forwarded-Proto: http")

CLIENT = "127.0.0.2"
"""The address of a client. The load balancer has another one, which the node trusts."""


@pytest.mark.parametrize("name", ["nginx", "haproxy", "tcp"])
async def test_a_node_learns_from_a_load_balancer_who_the_client_is(tmp_path: Path, name: str) -> None:
    need(name)
    certificate = Certificate(tmp_path)
    copy_app("request_facts", tmp_path)
    config = TRUSTED
    if name == "tcp":
        config += "proxy_protocol = true\n"
        config += f'tls_certificate = "{certificate.chain}"\ntls_key = "{certificate.key}"\n'
    with (
        Cluster(tmp_path, "--workers", "1", "--app", "request_facts:app", config=config) as cluster,
        balancer(name, tmp_path, [cluster.port, cluster.port], certificate) as door,
    ):
        facts = json.loads(door.get("/facts", "--interface", CLIENT, *FORGED))
        assert (facts["client"], facts["scheme"]) == (CLIENT, "https")
        connection = await door.open(path="/echo")
        await connection.send("hello")
        assert '"said":"hello"' in str(await connection.recv())
        await connection.close()
        if name != "tcp":
            redirect = ("--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}")
            assert door.get("/facts", *redirect, plain=True).startswith("308 https://127.0.0.1")
