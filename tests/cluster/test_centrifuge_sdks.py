"""The official clients of the Centrifuge protocol at a real cluster: they hear each message once, whatever happens."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from centrifuge import Client, PublicationContext, SubscriptionEventHandler

from tests.support.cluster import FAST_HEALTH, Cluster, clean_env, wsd
from tests.support.npm import NODE_MODULES, npm_package
from tests.support.waiting import eventually, long_run, until
from wsd import AsyncPublisher

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).parent.parent / "support" / "centrifuge.mjs"
API_KEY = "the-key-of-the-test"
CHANNEL = "news"
CONFIG = f"""
[security]
api_key = "{API_KEY}"
messages_per_second = 0
bytes_per_second = 0
{FAST_HEALTH}
[channels."*"]
history_size = 10000
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("centrifuge"), "--workers", "2", config=CONFIG) as running:
        yield running


class Heard:
    """What clients have heard in the channel: a list of numbers for each of them."""

    def __init__(self) -> None:
        self.of: defaultdict[str, list[int]] = defaultdict(list)
        self.subscribed = 0

    def everybody_has(self, clients: int, last: int) -> bool:
        return len(self.of) == clients and all(numbers[-1] == last for numbers in self.of.values())


class _Handler(SubscriptionEventHandler):  # type: ignore[misc]
    def __init__(self, heard: Heard, name: str) -> None:
        super().__init__()
        self._heard, self._name = heard, name

    async def on_subscribed(self, ctx: Any) -> None:
        self._heard.subscribed += 1

    async def on_publication(self, ctx: PublicationContext) -> None:
        data = ctx.pub.data
        self._heard.of[self._name].append(json.loads(data) if isinstance(data, bytes) else data)


@asynccontextmanager
async def python_clients(url: str, heard: Heard, count: int) -> AsyncIterator[None]:
    """Subscribe `count` clients in Python to the channel, every second with Protocol Buffers."""
    clients = []
    for number in range(count):
        client = Client(url, use_protobuf=bool(number % 2), min_reconnect_delay=0.05, max_reconnect_delay=1)
        subscription = client.new_subscription(CHANNEL, _Handler(heard, f"python-{number}"))
        await client.connect()
        await subscription.subscribe()
        clients.append(client)
    try:
        yield
    finally:
        for client in clients:
            await client.disconnect()


@asynccontextmanager
async def javascript_clients(url: str, heard: Heard, count: int, form: str) -> AsyncIterator[None]:
    """Subscribe `count` clients in JavaScript to the channel. `form`: json or protobuf."""
    npm_package("centrifuge")
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node")
    arguments = [str(PROGRAM), str(NODE_MODULES), url, CHANNEL, str(count), form]
    process = await asyncio.create_subprocess_exec(node, *arguments, stdout=asyncio.subprocess.PIPE)

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            record = json.loads(line)
            if record["event"] == "publication":
                heard.of[f"{form}-{record['number']}"].append(record["data"])
            elif record["event"] == "subscribed":
                heard.subscribed += 1

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        process.kill()
        await process.wait()
        await reading


async def test_official_clients_hear_each_message_once_while_workers_are_killed_and_replaced(cluster: Cluster) -> None:
    url = f"ws://127.0.0.1:{cluster.port}/connection/websocket"
    heard, sent = Heard(), 0
    async with (
        python_clients(url, heard, 4),
        javascript_clients(url, heard, 2, "json"),
        javascript_clients(url, heard, 2, "protobuf"),
        AsyncPublisher(f"http://127.0.0.1:{cluster.port}", API_KEY) as publisher,
    ):
        await eventually(lambda: heard.subscribed == 8, "eight subscriptions")
        changed = asyncio.create_task(asyncio.to_thread(_kill_and_replace, cluster))
        while not changed.done() or sent < 50:
            await publisher.publish(CHANNEL, sent, idempotency_key=f"n{sent}")
            sent += 1
            await asyncio.sleep(0.02)
        await changed
        await publisher.publish(CHANNEL, sent)
        await eventually(lambda: heard.everybody_has(8, sent), "the last message at all clients")
    assert {name: numbers for name, numbers in heard.of.items() if numbers != list(range(sent + 1))} == {}
    assert heard.subscribed > 8, "clients have come back"


def _kill_and_replace(cluster: Cluster) -> None:
    """Kill a worker, wait for the next one, and then replace both workers as a deploy does."""
    killed = cluster.worker(1).pid
    assert killed is not None
    os.kill(killed, 9)
    until(lambda: cluster.worker(1).state == "ready" and cluster.worker(1).pid != killed, "another worker")
    done = wsd("restart", cwd=cluster.directory)
    assert done.returncode == 0, done.stdout + done.stderr


SUITE = "centrifuge-python==0.7.0"
SUITE_CONFIG = """
[security]
jwt_secret = "{secret}"
jwt_require_exp = false
[centrifuge]
broadcast = false
[channels."*"]
history_size = 100
presence = "events"
[channels."smallhistory:*"]
history_size = 2
presence = "events"
"""


@long_run
def test_the_tests_of_the_client_in_python_pass(tmp_path: Path) -> None:
    """Its integration tests are taken from its package, and run as they are, but for the port and a longer secret."""
    command = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(tmp_path), SUITE]
    fetched = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"{SUITE} cannot be downloaded: {fetched.stderr[-200:]}")
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    [root] = [path for path in tmp_path.iterdir() if path.is_dir()]
    secret = "secret" * 6
    with Cluster(tmp_path, "--workers", "2", config=SUITE_CONFIG.format(secret=secret)) as running:
        for path in (root / "tests").glob("*.py"):
            text = path.read_text("utf-8").replace("localhost:8000", f"127.0.0.1:{running.port}")
            path.write_text(re.sub(r'hmac_secret = "secret"', f'hmac_secret = "{secret}"', text), "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "unittest", "tests.test_client"],
            cwd=root,
            env=clean_env(),
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "Ran 62 tests" in done.stderr
