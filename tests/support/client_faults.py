"""What happens to clients and their cluster: each fault begins, and has ended when its function returns.

How long a fault takes is a part of the fault. So these functions sleep, where a test waits for conditions.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt

from tests.support.cluster import Cluster
from tests.support.crowd import Crowd, Spread, spread
from tests.support.fleet import Fleet, fleet, installed_kinds
from tests.support.network import Network
from tests.support.valkey import Valkey
from tests.support.waiting import until


@dataclass
class Site:
    """A cluster, the network before it, and its clients. `redis`: the server of the cluster, unless it is embedded."""

    cluster: Cluster
    network: Network
    fleet: Fleet
    redis: Valkey | None = None

    def command(self, *arguments: str) -> None:
        result = self.cluster.wsd(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr

    def slots(self) -> list[int]:
        return [worker.slot for worker in self.cluster.status().workers]


Fault = Callable[[Site], None]

SECRET = "0123456789abcdef0123456789abcdef"
CONFIG = f"""
[cluster]
drain_seconds = 2.0

[security]
jwt_secret = "{SECRET}"
allowed_origins = ["*"]

[channels."*"]
history_size = 10000
"""
HOUR = 3600.0


def token(user_id: str, seconds: float = HOUR) -> str:
    """Return a token for the cluster of a site that ends after some seconds."""
    return jwt.encode({"sub": user_id, "name": user_id, "exp": time.time() + seconds}, SECRET, "HS256")


@contextmanager
def site_of(
    directory: Path, *token_seconds: float, redis: Valkey | None = None, kinds: tuple[str, ...] | None = None
) -> Iterator[Site]:
    """Run a cluster of two workers with a client of each kind that is installed, or of these kinds.

    `token_seconds`: when the tokens of the clients end, one after the other. Then they get one that does not.
    """
    arguments = ["--redis-url", redis.url] if redis is not None else []
    with Cluster(directory, "--workers", "2", *arguments, config=CONFIG) as cluster, Network(cluster.port) as network:

        def options(kind: str) -> dict[str, list[str]]:
            return {"tokens": [token(kind, seconds) for seconds in (*token_seconds, HOUR)]}

        with fleet(installed_kinds() if kinds is None else kinds, directory, network.url, options) as clients:
            yield Site(cluster, network, clients, redis)


def workers_killed(site: Site) -> None:
    """Kill each worker with messages on their way, the next one when the one before has been replaced."""
    for slot in site.slots():
        pid = site.cluster.worker(slot).pid
        assert pid is not None
        site.fleet.publish(30)
        os.kill(pid, signal.SIGKILL)
        until(lambda slot=slot, pid=pid: site.cluster.replaced(slot, pid), "a new worker")  # type: ignore[misc]


def deploy(site: Site) -> None:
    site.command("restart")


def workers_drained(site: Site) -> None:
    """Take each worker out of service and put it back."""
    for slot in site.slots():
        site.command("drain", str(slot))
        site.command("resume", str(slot))
    site.cluster.wait_until_healthy()


def valkey_killed(site: Site) -> None:
    """Kill the Valkey that the cluster has started itself."""
    valkey = site.cluster.status().valkey
    assert valkey is not None
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)

    def replaced() -> bool:
        now = site.cluster.status().valkey
        return now is not None and now.pid not in (None, valkey.pid)

    until(replaced, "a new Valkey")
    site.cluster.wait_until_healthy()


def redis_away(site: Site, seconds: float = 10.0) -> None:
    """Kill the Redis that the cluster did not start, and start it again after a while."""
    assert site.redis is not None
    site.redis.kill()
    time.sleep(seconds)
    site.redis.start()
    site.cluster.wait_until_healthy()


def redis_frozen(site: Site, seconds: float = 10.0) -> None:
    assert site.redis is not None
    site.redis.freeze()
    time.sleep(seconds)
    site.redis.thaw()
    site.cluster.wait_until_healthy()


def clients_stopped(site: Site, seconds: float = 5.0) -> None:
    """Stop the processes of the clients, and freeze the pages."""
    site.fleet.stop()
    time.sleep(seconds)
    site.fleet.go_on()


def offline(site: Site, seconds: float = 5.0, messages: int = 300) -> None:
    """Take the network away. Each client publishes so many messages meanwhile."""
    site.network.go_offline()
    for member in site.fleet.members:
        member.publish(messages_of(member.name, messages))
    time.sleep(seconds)
    site.network.go_online()


def messages_of(kind: str, messages: int) -> int:
    """Return how many of the messages a kind publishes: a program without asyncio waits for each answer."""
    return messages // 5 if kind == "sync" else messages


def slow(site: Site, latency: float = 0.4, bytes_per_second: float = 50_000, messages: int = 10) -> None:
    """Let each byte take 400 ms in both directions, and give each connection 50 KB a second.

    The clients say more than passes at once, until all of it has been heard.
    """
    site.network.set_line(latency=latency, bytes_per_second=bytes_per_second)
    for member in site.fleet.members:
        member.publish(messages_of(member.name, messages), padding=2000)
    site.fleet.catch_up()
    site.network.set_line()


def deaf_for_a_moment(site: Site, seconds: float = 3.0) -> None:
    """Lose all packets for some seconds. No connection ends."""
    site.network.go_deaf(new_ones_too=True)
    time.sleep(seconds)
    site.network.heal()


def half_open(site: Site, patience: float = 60.0) -> None:
    """Leave all connections half-open until each client has noticed."""
    before = {member.name: len(member.absences()) for member in site.fleet.members}
    site.network.go_deaf()
    site.fleet.publish()
    site.fleet.until_all(lambda member: len(member.absences()) > before[member.name], "a new connection", patience)
    site.network.heal()


def connections_cut(site: Site) -> None:
    """End every other connection with a reset."""
    for link in site.network.open_links[::2]:
        site.network.loop.call_soon_threadsafe(link.cut)


def stop_and_start(site: Site, pause: float = 2.0) -> None:
    """Stop the whole cluster, and start it again a while later."""
    site.command("stop")
    site.cluster.wait()
    time.sleep(pause)
    site.cluster.output_path.unlink()
    site.cluster.launch()
    site.cluster.wait_until_up()


def one_worker_killed(site: Site, crowds: list[Crowd]) -> Spread:
    """Kill a worker, wait until all of its clients are back, and tell how far their handshakes were spread.

    All clients must be connected.
    """
    worker = site.cluster.worker(1)
    assert worker.pid is not None
    seen = [len(each.attempts) for each in crowds]
    begun = time.time()
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: site.cluster.replaced(1, worker.pid), "a new worker")
    until(lambda: all(each.are_open for each in crowds), "all clients to be back")
    return spread([at - begun for each, old in zip(crowds, seen, strict=True) for at in each.attempts[old:]])
