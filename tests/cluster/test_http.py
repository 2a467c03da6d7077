"""The HTTP API of a cluster: metrics of all its processes, statistics of all its workers, publishing."""

import http.client
import json
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import Cluster, wsd
from tests.support.ports import unused_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

CONFIG = '[security]\napi_key = "sesame"\n\n[health]\nheartbeat_interval = 0.2\n'


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("http"), "--workers", "3", config=CONFIG) as running:
        yield running


def ask(cluster: Cluster, method: str, target: str, body: object = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, target, text, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def test_metrics_are_of_all_processes_of_the_node(cluster: Cluster) -> None:
    clients = [await cluster.client_of(slot) for slot in (1, 2, 3)]
    await eventually(lambda: sum(worker.connections or 0 for worker in cluster.status().workers) == 3)
    await eventually(lambda: all(cluster.worker_health(n)["websocket"]["total_workers"] == 3 for n in (1, 2, 3)))
    status, text = ask(cluster, "GET", "/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    up = {sample.labels["process"]: sample.value for sample in families["wsd_process_up"].samples}
    assert up == {"supervisor": 1, "nginx": 1, "valkey": 1, "worker-1": 1, "worker-2": 1, "worker-3": 1}
    connections = {sample.labels["worker"]: sample.value for sample in families["wsd_connections"].samples}
    assert connections == {"worker-1": 1, "worker-2": 1, "worker-3": 1}
    assert families["wsd_node_connections"].samples[0].value == 3
    assert families["wsd_cluster_workers"].samples[0].value == 3
    for client in clients:
        await client.close()


async def test_statistics_are_of_all_workers(cluster: Cluster) -> None:
    clients = [await cluster.client_of(slot, "ann") for slot in (1, 2)]
    status, text = ask(cluster, "GET", "/api/websocket/stats")
    stats = json.loads(text)
    assert status == 200
    assert stats["complete"]
    assert len(stats["workers"]) == 3
    assert {"name": "ann", "connections": 2} in stats["users"]
    for client in clients:
        await client.close()


async def test_another_process_publishes_to_clients_of_any_worker(cluster: Cluster) -> None:
    clients = [await cluster.client_of(slot, f"user-{slot}") for slot in (1, 2, 3)]
    for client in clients:
        await client.ask(type="subscribe", channel="news")
    message = {"channel": "news", "data": {"headline": "hi"}}
    status, text = ask(cluster, "POST", "/api/websocket/publish", message, X_API_Key="sesame")
    answer = json.loads(text)
    assert (status, answer["published"], answer["distributed"]) == (200, 1, True)
    assert [(each["channel"], each["offset"], each["durable"]) for each in answer["results"]] == [("news", 1, True)]
    for client in clients:
        assert await client.next_message() == {"type": "message", "channel": "news", "data": {"headline": "hi"}}
    status, _ = ask(cluster, "POST", "/api/websocket/publish", {"user_id": "user-2", "data": 1}, X_API_Key="sesame")
    assert status == 200
    assert (await clients[1].next_message())["data"] == 1
    assert ask(cluster, "POST", "/api/websocket/publish", message, X_API_Key="wrong")[0] == 401
    for client in clients:
        await client.close()


def test_a_page_of_another_site_reads_no_figures(cluster: Cluster) -> None:
    for target in ("/metrics", "/api/websocket/stats"):
        for host, expected in (("127.0.0.1", 200), (f"localhost:{cluster.port}", 200), ("evil.example", 403)):
            assert ask(cluster, "GET", target, Host=host)[0] == expected


def test_keys_are_never_shown(cluster: Cluster) -> None:
    shown = cluster.wsd("config").stdout
    assert 'api_key = "***"' in shown
    assert "sesame" not in shown + cluster.wsd("status", "--json").stdout


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('[security]\njwt_secret = "short"', "security.jwt_secret must have 32 bytes at least for HS256, got 5"),
        ('[security]\nauthenticate = "no.such:hook"', 'security.authenticate "no.such:hook" cannot be imported'),
        ('[security]\nallowed_origins = ["example.com"]', "security.allowed_origins must hold origins like"),
        ('[nginx]\nadmin_allow = ["everybody"]', "nginx.admin_allow must hold addresses or networks"),
        ('[nginx]\nadmin_hosts = ["wsd:8000"]', "nginx.admin_hosts must hold host names without a port"),
    ],
)
def test_security_settings_that_make_no_sense_stop_the_start(
    tmp_path_factory: pytest.TempPathFactory, config: str, problem: str
) -> None:
    directory = tmp_path_factory.mktemp("wrong")
    (directory / "wsd.toml").write_text(config)
    result = wsd("start", "--port", str(unused_port()), cwd=directory)
    assert result.returncode in (1, 2)
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("count", "size", "expected"), [(4, 16_300, 200), (5, 16_300, 400), (1, 16_500, 400)])
def test_a_worker_takes_the_headers_that_nginx_takes(cluster: Cluster, count: int, size: int, expected: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
    try:
        connection.request("GET", "/health", headers={f"x_{number}": "x" * size for number in range(count)})
        answer = connection.getresponse()
        assert answer.status == expected
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    finally:
        connection.close()
