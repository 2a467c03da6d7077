"""Two nodes that share a Redis: commands of one act on the other, and clients move between them."""

import http.client
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import redis

from tests.support.accessibility import faults
from tests.support.browser import CHROMIUM, chromium, watched_tab
from tests.support.cluster import FAST_HEALTH, Cluster, clean_env
from tests.support.ports import unused_port
from tests.support.tcp_proxy import TcpProxy
from tests.support.valkey import valkey
from tests.support.waiting import eventually, long_run, until
from wsd.client import WsdClient
from wsd.supervisor.nodes.signing import NodeRequest, sign
from wsd.worker.contract.redis_keys import node_inbox_key, node_key

pytestmark = pytest.mark.anyio

KEY = "a key that all nodes share"
CONFIG = FAST_HEALTH + "[cluster]\ndrain_seconds = 2.0\n"


class Balancer(TcpProxy):
    """A load balancer before two nodes, which sends every second connection to each."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._accepted = 0
        super().__init__(ports[0])

    @property
    def target(self) -> int:
        """The port of the next connection. Each connection reads it once."""
        self._accepted += 1
        return self.ports[self._accepted % len(self.ports)]

    @target.setter
    def target(self, port: int) -> None:
        pass


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey(tmp_path_factory.mktemp("redis"), unused_port()) as url:
        yield url


def node(
    number: int, url: str, factory: pytest.TempPathFactory, *, key: str = KEY, workers: int = 1, more: str = ""
) -> Cluster:
    options = ("--workers", str(workers), "--node-id", f"node-{number}", "--redis-url", url)
    return Cluster(factory.mktemp(f"node-{number}"), *options, config=CONFIG + more, env=clean_env(WSD_CLUSTER_KEY=key))


@pytest.fixture(scope="module")
def one(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with node(1, redis_url, tmp_path_factory) as running:
        yield running


@pytest.fixture(scope="module")
def two(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with node(2, redis_url, tmp_path_factory, workers=2) as running:
        yield running


@pytest.fixture
def nodes(one: Cluster, two: Cluster) -> tuple[Cluster, Cluster]:
    for cluster in (one, two):
        until(cluster.is_healthy)
    return one, two


def connections(cluster: Cluster) -> int:
    return sum(worker.connections or 0 for worker in cluster.status().workers)


@asynccontextmanager
async def clients(port: int, count: int) -> AsyncIterator[list[WsdClient]]:
    async with AsyncExitStack() as stack:
        url = f"ws://127.0.0.1:{port}/ws"
        yield [await stack.enter_async_context(WsdClient(url, f"u{n}")) for n in range(count)]


async def test_a_command_restarts_a_worker_of_another_node(nodes: tuple[Cluster, Cluster]) -> None:
    one, two = nodes
    before, own = two.worker(1).pid, one.worker(1).pid
    said = await one.run("restart", "1", "--node", "node-2")
    assert "worker-1" in said
    assert two.worker(1).pid != before
    assert one.worker(1).pid == own
    events = two.state_dir.events.read_text()
    assert "restart begins, asked for by wsd restart" in events
    assert "on node node-1" in events
    assert "restart on node-2 is done" in one.state_dir.events.read_text()


@long_run
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
async def test_the_dashboard_of_one_node_restarts_a_worker_of_the_other(nodes: tuple[Cluster, Cluster]) -> None:
    one, two = nodes
    before = two.worker(2).pid
    act = "document.querySelector('[aria-label$=\"on node node-2\"]')"
    with chromium(one.directory) as port, watched_tab(port, one.status().dashboard_url) as tab:
        await eventually(lambda: tab.run(f"{act}?.checkVisibility() && !{act}.disabled"))
        assert "2/2" in tab.text("#nodes")
        assert tab.text("#nodes-note") == ""
        assert tab.run("document.querySelectorAll('#nodes button:not([hidden])').length") == 1
        tab.run(f"{act}.click()")
        assert tab.text("#act-title") == "Act on node node-2"
        assert not tab.run("document.querySelector('#act-number').checkVisibility()")
        tab.run(
            "(s => { s.value = 'restart-one'; s.dispatchEvent(new Event('change')) })"
            "(document.querySelector('#act-action'))"
        )
        assert tab.text("#act-number-label") == "Slot"
        tab.run("document.querySelector('#act-number').value = 2")
        tab.run("document.querySelector('#act-yes').click()")
        await eventually(lambda: two.replaced(2, before), "the restart")
        await eventually(lambda: "restart on node-2 is done" in tab.text("#events"))
        assert tab.exceptions() == []
        assert "the dashboard, from 127.0.0.1, on node node-1" in two.state_dir.events.read_text()
        tab.run(f"{act}.click()")
        assert faults(tab) == []  # skips the test where axe-core is missing


async def test_the_dashboard_asks_no_node_for_another_site(nodes: tuple[Cluster, Cluster]) -> None:
    one, two = nodes
    before = [worker.pid for worker in two.status().workers]
    body = json.dumps({"node": "node-2", "action": "restart"})
    token = one.status().dashboard_url.partition("?token=")[2]
    for name, headers in (
        ("on-node", {"Authorization": f"Bearer {token}"}),
        ("rebalance-nodes", {"Authorization": f"Bearer {token}"}),
        ("on-node", {"X-WSD-Dashboard": "1"}),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=10)
        connection.request("POST", f"/_wsd/dashboard/api/{name}", body, headers)
        assert connection.getresponse().status in (401, 403)
        connection.close()
    assert two.status().operation is None
    assert [worker.pid for worker in two.status().workers] == before


async def test_an_error_of_the_other_node_is_the_error_of_the_command(nodes: tuple[Cluster, Cluster]) -> None:
    one, _ = nodes
    for arguments, reason in (
        (("restart", "9", "--node", "node-2"), "node-2: there is no slot 9"),
        (("restart", "--node", "node-3"), 'there is no node "node-3": `wsd status --nodes` lists node-1, node-2'),
    ):
        result = one.wsd(*arguments)
        assert result.returncode == 1
        assert reason in result.stderr
        assert "Traceback" not in result.stderr


async def test_a_request_without_the_key_does_nothing(nodes: tuple[Cluster, Cluster], redis_url: str) -> None:
    _, two = nodes
    before = [worker.pid for worker in two.status().workers]
    with redis.Redis.from_url(redis_url) as connection:
        record = json.loads(connection.get(node_key("node-2")))
        inbox = node_inbox_key(record["inbox"])
        request = NodeRequest(
            node_id="node-2", inbox=record["inbox"], action="restart", body="{}", asker="somebody", request_id="r",
            time_ms=int(connection.time()[0]) * 1000,
        )  # fmt: skip
        for text in ("", "{}", "\x00", "[" * 9000, sign("another key of somebody", request)):
            connection.rpush(inbox, text)
        await eventually(lambda: not connection.exists(inbox), "all are read")
    await eventually(lambda: "refused a request of another node" in two.state_dir.events.read_text())
    assert two.is_healthy()
    assert two.status().operation is None
    assert [worker.pid for worker in two.status().workers] == before


@long_run
async def test_a_request_is_carried_out_once(nodes: tuple[Cluster, Cluster], redis_url: str) -> None:
    _, two = nodes
    before = two.worker(1).pid
    with redis.Redis.from_url(redis_url) as connection:
        record = json.loads(connection.get(node_key("node-2")))
        inbox = node_inbox_key(record["inbox"])
        request = NodeRequest(
            node_id="node-2", inbox=record["inbox"], action="restart", body='{"slots": [1]}', asker="a copy",
            request_id="only once", time_ms=int(connection.time()[0]) * 1000,
        )  # fmt: skip
        for _ in range(3):
            connection.rpush(inbox, sign(KEY, request))
        await eventually(lambda: two.replaced(1, before), "the restart")
        await eventually(lambda: two.status().operation is None)
        after = two.worker(1).pid
        connection.rpush(inbox, sign(KEY, request))
        await eventually(lambda: not connection.exists(inbox))
    events = [line for line in two.state_dir.events.read_text().splitlines() if "a copy" in line]
    assert len([line for line in events if "restart begins" in line]) == 1
    assert two.worker(1).pid == after


@long_run
async def test_a_node_with_another_key_cannot_ask(
    nodes: tuple[Cluster, Cluster], redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with node(3, redis_url, tmp_path_factory, key="another key of 16 or more") as three:
        result = three.wsd("restart", "--node", "node-2")
        assert result.returncode == 1
        assert "node-2 did not take the request within 10 s: is its cluster.cluster_key the same?" in result.stderr
        three.kill()
    one, two = nodes
    states = {"node-1": "healthy", "node-2": "healthy", "node-3": "gone"}
    for cluster in (one, two):
        await eventually(lambda: {each.node_id: each.state for each in cluster.status().nodes} == states)  # noqa: B023
    assert 'wsd_nodes{node="node-1",state="gone"} 1' in one.get("/metrics")[1].decode()
    result = one.wsd("restart", "--node", "node-3")
    assert (result.returncode, 'node "node-3" is gone' in result.stderr) == (1, True)


@long_run
async def test_without_a_key_one_line_says_so(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with node(4, redis_url, tmp_path_factory, key="") as four:
        for arguments in (("restart", "--node", "node-2"), ("rebalance", "--nodes")):
            result = four.wsd(*arguments)
            assert result.returncode == 1
            assert "set the same cluster.cluster_key on all" in result.stderr
            assert result.stderr.count("\n") == 1


@long_run
async def test_clients_move_to_the_node_that_has_none(nodes: tuple[Cluster, Cluster]) -> None:
    one, two = nodes
    with Balancer([one.port]) as balancer:
        async with clients(balancer.port, 30) as crowd:
            await eventually(lambda: connections(one) == 30)
            balancer.ports = [one.port, two.port]
            said = await one.run("rebalance", "--nodes")
            assert "before: node-1 30, node-2 0" in said
            assert "node-1 sends away 20" in said  # node 2 has two of three workers
            await eventually(lambda: connections(one) + connections(two) == 30)
            assert connections(one) <= 12
            assert all(client.state.name == "open" for client in crowd)


@long_run
async def test_clients_move_by_themselves_after_a_node_has_joined(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    by_itself = "[scale]\nrebalance = true\n"
    with (
        node(5, redis_url, tmp_path_factory, key="", more=by_itself) as five,
        Balancer([five.port]) as balancer,
    ):
        async with clients(balancer.port, 40):
            await eventually(lambda: connections(five) == 40)
            with node(6, redis_url, tmp_path_factory, key="", more=by_itself) as six:
                balancer.ports = [five.port, six.port]
                await eventually(lambda: connections(six) >= 10, patience=60)
                assert "rebalance after a node has joined" in five.state_dir.events.read_text()
