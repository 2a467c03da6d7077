"""`wsd trace` tells why a client was disconnected, on whatever worker it was, and after the end of its session."""

import asyncio
import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def trace(cluster: Cluster, who: str) -> list[dict[str, Any]]:
    """Return the sessions of a user, or one session, as `wsd trace --json` prints them."""
    sessions: list[dict[str, Any]] = json.loads(await cluster.run("trace", who, "--json"))["sessions"]
    return sessions


def happened(session: dict[str, Any]) -> list[str]:
    return [event["what"] for event in session["events"]]


async def ended(cluster: Cluster, who: str, how: str) -> dict[str, Any]:
    """Return the only session of a user, once its trace ends like this."""
    async with asyncio.timeout(10):
        while True:
            (session,) = await trace(cluster, who)
            if how in session["events"][-1]["detail"]:
                return session


def closed(cluster: Cluster, reason: str) -> int:
    """Return how many connections have ended for a reason, as the metrics count them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [
        line for line in lines if line.startswith("wsd_connections_closed_total{") and f'reason="{reason}"' in line
    ]
    return int(sum(float(line.rpartition(" ")[2]) for line in found))


async def test_a_live_connection_is_traced_on_whatever_worker_it_is(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        for slot in (1, 2):
            client = await cluster.client_of(slot, f"user-{slot}")
            await client.ask(type="subscribe", channel="news")
            await client.ask(type="subscribe", channel="talk")
            await client.ask(type="unsubscribe", channel="talk")
            (session,) = [s for s in await trace(cluster, f"user-{slot}") if s["state"] == "connected"]
            assert happened(session) == ["connected", "joined", "joined", "left"]
            assert {event["worker_id"] for event in session["events"]} == {client.worker_id}
            assert (await trace(cluster, client.welcome["session_id"]))[0] == session
            await client.close()


async def test_the_trace_of_an_ended_connection_says_who_closed_it_and_why(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        leaves, lost, kicked = [await cluster.client(name) for name in ("leaves", "lost", "kicked")]
        await leaves.close()
        session = await ended(cluster, "leaves", "1000 by the client")
        assert (session["state"], happened(session)) == ("ended", ["connected", "closed"])
        lost.connection.transport.abort()
        await ended(cluster, "lost", "1006 lost without a close frame")
        await cluster.run("kick", "kicked")
        await ended(cluster, "kicked", "4500 by the server")
        # A close code says nothing about who used it.
        for code in (1008, 1012, 1013, 4500):
            claims = await cluster.client(f"claims-{code}")
            await claims.connection.close(code, "so I say")
            await ended(cluster, f"claims-{code}", f"{code} by the client (so I say)")
        breaks = await cluster.client("breaks")
        breaks.connection.transport.write(b"\x8f\x80\0\0\0\0")  # a frame with an opcode that there is not
        await ended(cluster, "breaks", "1002 by the server")
        await breaks.connection.wait_closed()
        assert closed(cluster, "by_client") == 4
        assert closed(cluster, "slow_reader") == closed(cluster, "policy") == closed(cluster, "restart") == 0
        await kicked.connection.wait_closed()
        await lost.connection.wait_closed()


async def test_the_trace_of_a_deploy_shows_the_restart_and_the_resume(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        client = await cluster.client("ann")
        await client.ask(type="subscribe", channel="news")
        await cluster.run("restart", "--surge")
        before = client.worker_id
        await client.come_back(cluster)
        (session,) = await trace(cluster, "ann")
        assert happened(session) == ["connected", "joined", "closed", "resumed", "joined"]
        assert "1012 by the server: its worker stops" in session["events"][2]["detail"]
        assert session["events"][3]["detail"] == f"from {before}"
        said = await cluster.run("trace", "ann")
        assert "(restart begins, asked for by wsd restart, user " in said
        assert said.index("(restart begins") < said.index("closed 1012") < said.index("resumed from")
        await client.close()


async def client_of_a_killed_worker(cluster: Cluster) -> HubClient:
    client = await cluster.client_of(2, "ann")
    pid = cluster.worker(2).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await client.connection.wait_closed()
    return client


async def test_the_end_of_a_killed_worker_is_in_the_trace_of_its_client(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        client = await client_of_a_killed_worker(cluster)
        session_id, worker_id = client.welcome["session_id"], client.worker_id
        assert (await client.connect(cluster))["resumed"]
        (session,) = [s for s in await trace(cluster, "ann") if s["session_id"] == session_id]
        assert session["events"][0]["what"] == "resumed"
        assert session["events"][0]["detail"] == f"from {worker_id}"
        await client.close()


async def test_the_trace_says_that_the_worker_was_killed_if_the_client_never_comes_back(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        client = await client_of_a_killed_worker(cluster)
        session_id = client.welcome["session_id"]
        await eventually(lambda: "ended without a word" in cluster.wsd("trace", session_id).stdout)
        await eventually(lambda: "(worker-2 ended" in cluster.wsd("trace", session_id).stdout)


async def test_the_trace_of_a_slow_reader_says_how_much_was_waiting(tmp_path: Path) -> None:
    config = "[websocket]\nmax_buffer_bytes = 100000\n[security]\nbytes_per_second = 0\n"
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        reader, writer = await cluster.client("slow"), await cluster.client("writer")
        for client in (reader, writer):
            await client.ask(type="subscribe", channel="news")
        reader.connection.transport.pause_reading()
        while "1013" not in cluster.wsd("trace", "slow").stdout:
            for _ in range(20):
                await writer.ask(type="publish", channel="news", data="x" * 50_000)
        session = await ended(cluster, "slow", "1013 by the server: the client reads too slowly")
        assert int(session["events"][-1]["detail"].rsplit("at most ", 1)[1].split()[0]) > 50_000
        reader.connection.transport.abort()
        await reader.connection.wait_closed()
        await writer.close()


async def test_trace_says_when_no_traces_are_kept_or_a_name_is_unknown(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", config="[websocket]\ntrace_ttl = 0\n") as cluster:
        client = await cluster.client("ann")
        assert happened((await trace(cluster, "ann"))[0]) == ["connected"]
        await client.close()
        await eventually(lambda: cluster.wsd("trace", "ann").returncode == 1)
        result = cluster.wsd("trace", "nobody")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert 'user "nobody"' in result.stderr
        assert cluster.wsd("trace", "nobody", "--json").returncode == 1
