"""Lists of sessions and channels, and how to end sessions: `wsd sessions`, `channels`, `kick`."""

import json
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.waiting import eventually
from wsd.supervisor.unix_http import request

pytestmark = pytest.mark.anyio


def shown(cluster: Cluster, *arguments: str) -> dict[str, object]:
    result = cluster.wsd(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


async def test_sessions_are_listed_over_all_workers_and_by_page(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        ann = await cluster.client_of(1, "ann")
        bob = await cluster.client_of(2, "bob")
        await bob.ask(type="subscribe", channel="news")
        await eventually(lambda: "news" in cluster.wsd("sessions", "--user", "bob").stdout)
        table = cluster.wsd("sessions").stdout
        assert ann.worker_id in table
        assert bob.worker_id in table
        assert "token" not in json.dumps(shown(cluster, "sessions"))
        one = shown(cluster, "sessions", "--user", "ann")
        assert one["total"] == 1
        assert one["sessions"][0]["session_id"] == ann.welcome["session_id"]  # type: ignore[index]
        all_of_them = shown(cluster, "sessions")
        total = all_of_them["total"]
        assert isinstance(total, int)
        assert total >= 2
        pages = [shown(cluster, "sessions", "--limit", "1", "--offset", str(n))["sessions"] for n in range(total)]
        assert sorted(page[0]["session_id"] for page in pages) == sorted(  # type: ignore[index]
            session["session_id"]
            for session in all_of_them["sessions"]  # type: ignore[attr-defined]
        )
        await ann.close()
        await bob.close()


async def test_channels_are_listed_the_largest_first(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        clients = [await cluster.client(f"user-{number}") for number in range(3)]
        for client in clients:
            await client.ask(type="subscribe", channel="large")
        await clients[0].ask(type="subscribe", channel="small")
        found = shown(cluster, "channels")
        assert [(c["name"], c["connections"]) for c in found["channels"]][:2] == [  # type: ignore[attr-defined]
            ("large", 3),
            ("small", 1),
        ]
        assert "large" in cluster.wsd("channels").stdout
        assert len(shown(cluster, "channels", "--limit", "1", "--offset", "1")["channels"]) == 1  # type: ignore[arg-type]
        for client in clients:
            await client.close()


@pytest.mark.parametrize("by", ["session_id", "user_id"])
async def test_a_kick_ends_the_session_on_whatever_worker_it_is(tmp_path: Path, by: str) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        client = await cluster.client_of(2, "ann")
        other = await cluster.client_of(1, "bob")
        result = cluster.wsd("kick", client.welcome[by])
        assert result.returncode == 0, result.stderr
        assert f"ended session {client.welcome['session_id']} of ann" in result.stdout
        await client.connection.wait_closed()
        assert client.connection.close_code == 4500
        assert (await other.ask(type="ping"))["type"] == "pong"
        again = cluster.wsd("kick", client.welcome[by])
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert cluster.wsd("kick", client.welcome[by], "--json").returncode == 1
        await other.close()


async def test_workers_answer_operator_requests_only_with_the_key(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        assert cluster.get("/_wsd/sessions")[0] == 404
        assert cluster.get("//_wsd/sessions")[0] in (400, 404)
        assert cluster.get("/%5fwsd/sessions")[0] == 404
        for headers in ({}, {"X-WSD-Operator-Key": "guess"}):
            status, _ = request(cluster.state_dir.worker_socket(1), "GET", "/_wsd/sessions", 5, headers=headers)
            assert status == 404
        assert (cluster.state_dir.root / "operator.key").stat().st_mode & 0o077 == 0


async def test_without_redis_there_is_no_list_of_sessions_and_no_common_channel(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2", config="[redis]\nembedded = false\n") as cluster:
        for arguments in (["sessions"], ["publish", "news", "1"]):
            result = cluster.wsd(*arguments)
            assert (result.returncode, result.stderr.count("\n")) == (1, 1)
            assert "without Redis every worker stands alone" in result.stderr
