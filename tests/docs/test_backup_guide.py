"""docs/guides/backup.md, step by step: a backup, a restore, a trial of a backup, and a move to another Redis."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, wsd
from tests.support.hub_client import HubClient
from tests.support.pages import ROOT, blocks
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import long_run

pytestmark = [
    pytest.mark.anyio,
    long_run,
    pytest.mark.skipif(shutil.which("redis-cli") is None, reason="needs redis-cli, of the package redis-tools"),
]

PAGE = ROOT / "docs" / "guides" / "backup.md"


def shown(part: str) -> str:
    """Return the only block of the page that has this text."""
    (found,) = [block.text for block in blocks(PAGE) if part in block.text and block.language == "sh"]
    return found


def run(cluster: Cluster, commands: str) -> str:
    """Run commands of the page in the directory of the cluster, as a reader would, and return what they print."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=cluster.directory,
        env={**cluster.env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory with a short name: in one with a long name, the socket of Valkey is not where the page says."""
    with tempfile.TemporaryDirectory(prefix="wsd-backup-") as name:
        yield Path(name)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    port = unused_port()
    settings = f'[cluster]\nport = {port}\nworkers = 1\n[channels."*"]\nhistory_ttl_seconds = 86400\n'
    with Cluster(tmp_path, config=settings, port=port) as running:
        try:
            yield running
        finally:
            running.wsd("stop")
            if (trial := tmp_path / "trial").exists():
                wsd("stop", cwd=trial)


async def test_data_is_restored_from_a_backup_and_moved_to_another_redis(cluster: Cluster, tmp_path: Path) -> None:
    assert run(cluster, shown("PING")) == "PONG\n"
    ann, bob = await cluster.client("ann"), await cluster.client("bob")
    await ann.subscribe("room")
    await bob.ask(type="publish", channel="room", data="kept")
    # Valkey waits for further replicas before it sends its data to the first one.
    run(cluster, "redis-cli -s .wsd/run/valkey.sock CONFIG SET repl-diskless-sync-delay 0")
    run(cluster, shown("--rdb backup.rdb"))
    assert (tmp_path / "backup.rdb").stat().st_mode & 0o077 == 0
    await bob.ask(type="publish", channel="room", data="lost")
    assert await ann.read(2) == ["kept", "lost"]

    listing, *_ = [block.text for block in blocks(PAGE) if "--scan" in block.text]
    run(cluster, shown("cp backup.rdb .wsd"))
    channels = int(run(cluster, shown("EVAL")))
    assert channels >= 1
    await bob.connect(cluster)
    for data in ("new", "newer"):  # with the numbers of the lost message and of one more
        await bob.ask(type="publish", channel="room", data=data)
    welcome = await ann.connect(cluster)
    assert welcome["resumed"]
    assert welcome["channels"]["room"]["recovered"] is False
    assert welcome["channels"]["room"]["reason"] == "epoch_changed"
    assert [message["data"] for message in await history(ann)] == ["kept", "new", "newer"]
    assert "ws_history:{room}\n" in run(cluster, listing)
    trial = run(cluster, shown("cd trial").replace("8099", str(unused_port())))
    assert "ws_history:{room}\n" in trial

    run(cluster, shown("BGREWRITEAOF"))
    await ann.drop()
    await bob.ask(type="publish", channel="room", data="missed")
    port = unused_port()
    with valkey(tmp_path / "redis", port, "--appendonly", "yes", "--requirepass", "a-long-secret"):
        here = {"-h 10.0.0.3": f"-h 127.0.0.1 -p {port}", "10.0.0.3:6379": f"127.0.0.1:{port}"}
        commands = shown("--pipe") + shown("export REDIS_URL")
        for before, after in here.items():
            assert before in commands
            commands = commands.replace(before, after)
        assert "errors: 0" in run(cluster, commands)
        assert (await ann.connect(cluster))["resumed"]
        assert await ann.read(1) == ["missed"]
        assert [message["data"] for message in await history(ann)] == ["kept", "new", "newer", "missed"]
        await ann.close()
        await bob.drop()
        cluster.wsd("stop")


async def history(client: HubClient) -> list[dict[str, str]]:
    answer = await client.ask(type="history", channel="room")
    messages: list[dict[str, str]] = answer["messages"]
    return messages
