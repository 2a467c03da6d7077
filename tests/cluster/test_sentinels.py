"""`wsd start` and `wsd doctor` with a Redis that Sentinels watch: what they show, and what they refuse."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import FAST_HEALTH, Cluster, clean_env, wsd
from tests.support.ports import unused_port
from tests.support.sentinels import NAME, SentinelSet, sentinel_set
from tests.support.waiting import eventually, long_run

SERVER_PASSWORD, SENTINEL_PASSWORD = "of-the-servers", "of-the-sentinels"

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    directory = tmp_path_factory.mktemp("sentinels")
    with sentinel_set(directory, password=SERVER_PASSWORD, sentinel_password=SENTINEL_PASSWORD) as running:
        yield running


def refusal(directory: Path, url: str, sentinel_password: str = SENTINEL_PASSWORD) -> str:
    """Start a cluster that is refused, and return the line that says why."""
    env = clean_env(REDIS_SENTINEL_PASSWORD=sentinel_password, WSD_REDIS_STAND_IN="no")
    done = wsd("start", "--workers", "1", "--port", str(unused_port()), "--redis-url", url, cwd=directory, env=env)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert SERVER_PASSWORD not in done.stdout + done.stderr
    assert SENTINEL_PASSWORD not in done.stdout + done.stderr
    return line


async def test_the_primary_is_shown_and_followed_and_no_password_is(tmp_path: Path, servers: SentinelSet) -> None:
    config = f'{FAST_HEALTH}[redis]\nsentinel_password = "{SENTINEL_PASSWORD}"\n'
    old, new = servers.primary, servers.replica
    with Cluster(tmp_path, "--workers", "2", "--redis-url", servers.url, config=config) as cluster:
        shown = servers.url.replace(SERVER_PASSWORD, "***")
        assert f"{shown}, primary {old.address}" in cluster.output
        status = cluster.status()
        assert (status.state, status.redis.url, status.redis.primary) == ("healthy", shown, old.address)
        assert cluster.health()[1]["websocket"]["redis_primary"] == old.address
        one, two = await cluster.client_of(1), await cluster.client_of(2)
        for client in (one, two):
            await client.ask(type="subscribe", channel="room")
        servers.fail_over()
        await eventually(lambda: cluster.status().redis.primary == new.address)
        await eventually(lambda: cluster.health()[1]["websocket"]["redis_primary"] == new.address)
        await eventually(lambda: cluster.wsd("events").stdout.count("Redis is back") == 2)
        assert (await one.ask(type="publish", channel="room", data="after"))["durable"]
        assert (await two.next_message())["data"] == "after"
        await eventually(cluster.is_healthy)
        assert f"another primary: {new.address}" in cluster.wsd("events").stdout
        outputs = [cluster.output, cluster.wsd("status").stdout, cluster.wsd("config").stdout]
        outputs += [cluster.wsd("logs").stdout, cluster.wsd("events").stdout]
        doctor = wsd("doctor", cwd=tmp_path, env={**cluster.env, "REDIS_URL": servers.url}).stdout
        assert "Sentinels: 3 of 3 answer, and name" in doctor
        assert "min-replicas-to-write is 0" in doctor
        for output in [*outputs, doctor]:
            assert SERVER_PASSWORD not in output
            assert SENTINEL_PASSWORD not in output
        servers.sentinels[2].kill()
        await eventually(lambda: any("1 of 3 Sentinels do not answer" in text for text in cluster.status().warnings))
        servers.sentinels[2].start()
        await eventually(lambda: not any("Sentinel" in text for text in cluster.status().warnings))
        await one.close()
        await two.close()


def test_a_start_that_waiting_would_not_help_is_refused_in_one_line(tmp_path: Path, servers: SentinelSet) -> None:
    sentinel = servers.sentinels[0]
    unknown = refusal(tmp_path, servers.url.removesuffix(NAME) + "other")
    assert 'the Sentinels know no primary "other"; these are known: chat' in unknown
    for wrong in ("", "wrong"):
        line = refusal(tmp_path, servers.url, wrong)
        assert f"Sentinel {sentinel.address}: " in line
        assert "check redis.sentinel_username and redis.sentinel_password" in line
    of_servers = refusal(tmp_path, servers.url.replace(SERVER_PASSWORD, "wrong"))
    assert "check the user of REDIS_URL, its password" in of_servers
    plain = refusal(tmp_path, f"redis://:{SENTINEL_PASSWORD}@{sentinel.address}")
    assert plain.endswith(f"as redis+sentinel://{sentinel.address}/{NAME}")
    malformed = refusal(tmp_path, f"redis+sentinel://:{SERVER_PASSWORD}@{sentinel.address},/{NAME}")
    assert "REDIS_URL" not in malformed
    assert "redis.url has an empty host among its Sentinels" in malformed


@long_run
def test_without_any_sentinel_the_start_is_degraded(tmp_path: Path) -> None:
    url = f"redis+sentinel://127.0.0.1:{unused_port()},127.0.0.1:{unused_port()}/{NAME}"
    with Cluster(tmp_path, "--workers", "1", "--redis-url", url, config=FAST_HEALTH) as cluster:
        assert f"Redis {url} is not reachable (no Sentinel answers: Sentinel 127.0.0.1:" in cluster.output
        assert "wsd is up, but degraded" in cluster.output
        assert cluster.status().redis.primary is None
        assert any("no Sentinel names a primary" in problem for problem in cluster.status().problems)
