"""nginx and HAProxy in front of two nodes, with the configurations that docs/nodes.md shows."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import long_run, until
from wsd.supervisor.services.nginx_program import find_binary

pytestmark = [pytest.mark.anyio, long_run]

PAGE = Path(__file__).parent.parent.parent / "docs" / "nodes.md"

NGINX_ALONE = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}; proxy_temp_path {directory};
    fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
    {shown}
}}
"""
"""What surrounds the shown part of nginx's configuration."""


def shown(name: str) -> str:
    """Return the block of the page that begins with a comment with this name."""
    found = re.search(rf"^```\w*\n(# {name}.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


class Balancer:
    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self, query: str = "") -> ClientConnection:
        return await connect(f"ws://127.0.0.1:{self.port}/ws?{query}", ping_interval=None)


@contextmanager
def balancer(name: str, directory: Path, ports: list[int]) -> Iterator[Balancer]:
    port = unused_port()
    text = shown({"nginx": "/etc/nginx/conf.d/wsd.conf", "haproxy": "/etc/haproxy/haproxy.cfg"}[name])
    for number, node in enumerate(ports, start=1):
        text, count = re.subn(rf"10\.0\.0\.{number}:8000", f"127.0.0.1:{node}", text)
        assert count == 1
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("bind :80", f"bind 127.0.0.1:{port}")
    file = directory / f"{name}.conf"
    if name == "nginx":
        file.write_text(NGINX_ALONE.format(directory=directory, shown=text))
        command = [str(find_binary("")), "-c", str(file), "-p", str(directory)]
    else:
        file.write_text(text)
        command = ["haproxy", "-db", "-f", str(file)]
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, (directory / f"{name}.log").read_text()
        yield Balancer(port)
    finally:
        process.terminate()
        process.wait(10)


def answers(port: int) -> bool:
    found = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/health"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout == "200"


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
async def test_no_handshake_fails_while_a_node_behind_a_load_balancer_stops(tmp_path: Path, name: str) -> None:
    if name == "haproxy" and shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")
    for node in ("a", "b"):
        (tmp_path / node).mkdir()
    trusted = '[nginx]\ntrusted_proxies = ["127.0.0.1"]\n'
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        Cluster(tmp_path / "a", "--workers", "1", "--redis-url", url, "--node-id", "a", config=trusted) as a,
        Cluster(tmp_path / "b", "--workers", "1", "--redis-url", url, "--node-id", "b", config=trusted) as b,
        balancer(name, tmp_path, [a.port, b.port]) as door,
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
        with Cluster(tmp_path / "a", *a.arguments[:-2], port=a.port, config=trusted):
            async with asyncio.timeout(20):  # a node that is back gets clients again
                while (await (back := HubClient("back")).connect(door))["node_id"] != "a":
                    await back.close()
        for client in clients:
            await client.close()
