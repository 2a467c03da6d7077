"""Two nodes, a Redis and clients on machines of their own, and load that goes on whatever happens to the network."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
from websockets.asyncio.client import ClientConnection, connect

from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient
from tests.support.namespaces import Machine, machines
from tests.support.valkey import Valkey
from tests.support.waiting import until
from wsd.supervisor.chaos.clients import ChaosClient, Publisher, Subscriber
from wsd.supervisor.chaos.verdict import Ledger
from wsd.supervisor.control.status import NodeStatus

T = TypeVar("T")

NODES = ("n1", "n2")

REDIS_PORT = 6379

RATE = 10.0
"""Messages per second of each publisher."""


class Talker(Publisher):
    """A publisher that takes every ack for good, also one of a message that waits for Redis.

    As long as its worker lives, such a message reaches every member, too.
    """

    def _received(self, message: dict[str, Any]) -> None:
        super()._received({**message, "durable": True})


class Traveller(Subscriber):
    """A subscriber that can change over to another node."""

    def move(self, url: str) -> None:
        self._urls = cycle([url])
        self.drop()


class Door:
    """The public port of a node, as the machine of the clients reaches it."""

    def __init__(self, machine: Machine, port: int) -> None:
        self.url = f"ws://{machine.front}:{port}/ws"

    async def open(self, query: str = "") -> ClientConnection:
        return await connect(f"{self.url}?{query}", ping_interval=None)


class Load:
    """Clients of both nodes, which publish and read in a thread of the clients' machine. The ledger has the result.

    On each node there are a publisher that wants durable acks, a talker, and two subscribers of all channels.
    """

    def __init__(self, machine: Machine, doors: dict[str, Door], run: str) -> None:
        """`run`: a word that keeps channels and users of this load apart from others."""
        self.channels = [f"{run}:{node}:{kind}" for node in doors for kind in ("durable", "talk")]
        readers = {f"{run}-{node}-s{number}": node for node in doors for number in (1, 2)}
        self.ledger = Ledger(list(readers))
        self.readers = {
            user: Traveller([doors[node].url], user, self.ledger, self.channels) for user, node in readers.items()
        }
        self.publishers: list[Publisher] = [
            kind([doors[channel.split(":")[1]].url], channel.replace(":", "-"), self.ledger, channel, RATE)
            for channel, kind in zip(self.channels, [Publisher, Talker] * len(doors), strict=True)
        ]
        self._machine = machine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="load")
        self._running: list[Future[None]] = []
        self._publishing: list[Future[None]] = []

    @property
    def clients(self) -> list[ChaosClient]:
        return [*self.publishers, *self.readers.values()]

    def __enter__(self) -> Self:
        with self._machine.inside():
            self._thread.start()
        self._running = [self._begin(client.run()) for client in self.clients]
        ready = [client.connected for client in self.publishers] + [one.ready for one in self.readers.values()]
        until(lambda: all(event.is_set() for event in ready), "the clients")
        self._publishing = [self._begin(publisher.publish_messages()) for publisher in self.publishers]
        until(lambda: all(self.ledger.acked[one.user_id] for one in self.publishers), "the first messages")
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._end([*self._publishing, *self._running])
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the thread of the clients, and return the result."""
        return self._begin(work).result(20)

    def arrived(self, reader: str, publisher: str) -> int:
        """Return how many messages of a publisher a reader has."""
        return len(self.ledger.delivered[reader][publisher])

    def settle(self, patience: float = 30) -> float:
        """End the publishing, and wait until everything that was acked has arrived. Return the seconds."""
        self._end(self._publishing)
        return seconds_until(lambda: not self.ledger.missing, "all that was acked", patience)

    def figures(self) -> str:
        ledger = self.ledger
        acked = sum(map(len, ledger.acked.values()))
        return (
            f"{acked} acked, {ledger.missing} lost, {ledger.duplicated} doubled, {ledger.out_of_order} out of order, "
            f"{ledger.holes} missed without notice, {ledger.told} gaps, {ledger.reconnects} reconnects"
        )

    def _begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _end(self, tasks: list["Future[None]"]) -> None:
        for task in tasks:
            task.cancel()
        with suppress(TimeoutError):
            self.call(asyncio.sleep(0.2))  # for the clients to close


class TwoNodes:
    """A Redis and two nodes of two workers each: `with TwoNodes(tmp_path) as nodes`. Skips where that is impossible."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.nodes: dict[str, Cluster] = {}
        self.doors: dict[str, Door] = {}
        self._runs = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.machines = stack.enter_context(machines("redis", *NODES, "clients", "redis2"))
            self.address = f"{self.machines['redis'].back.rpartition('.')[0]}.100"  # which may move
            self.machines.add_address(self.address, "redis")
            self.redis = self.start_redis("redis")
            stack.callback(self.redis.kill)
            for name in NODES:
                (self._directory / name).mkdir()
                url = f"redis://{self.address}:{REDIS_PORT}"
                arguments = ("--workers", "2", "--host", "0.0.0.0", "--redis-url", url, "--node-id", name)
                with self.machines[name].inside():
                    node = Cluster(self._directory / name, *arguments)
                    self.nodes[name] = stack.enter_context(node)
                self.doors[name] = Door(self.machines[name], node.port)
            until(lambda: [one.state for one in self.seen_by("n1")] == ["healthy", "healthy"], "both nodes")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.__exit__(kind, exc, tb)

    def start_redis(self, name: str, *options: str) -> Valkey:
        """Start a Redis on a machine, which listens at all its addresses."""
        everywhere = ("--bind", "0.0.0.0", "--protected-mode", "no", "--appendonly", "yes")
        with self.machines[name].inside():
            return Valkey(self._directory / name, REDIS_PORT, *everywhere, *options)

    def ask_redis(self, name: str, *command: str) -> Any:
        """Send a command to the Redis on a machine, and return its answer."""
        host = self.machines[name].back
        with self.machines[name].inside(), redis.Redis(host, REDIS_PORT, decode_responses=True) as client:
            return client.execute_command(*command)

    def load(self) -> Load:
        self._runs += 1
        return Load(self.machines["clients"], self.doors, f"run{self._runs}")

    def seen_by(self, name: str) -> list[NodeStatus]:
        """Return the nodes that the status of a node lists."""
        return self.nodes[name].status().nodes

    def state_of(self, name: str, *, seen_by: str) -> str:
        return next((node.state for node in self.seen_by(seen_by) if node.node_id == name), "")

    def is_whole(self) -> bool:
        """Tell whether both nodes are healthy, and see each other."""
        return all([one.state for one in self.seen_by(name)] == ["healthy", "healthy"] for name in NODES)

    async def members(self, channel: str, *, seen_by: str) -> set[str]:
        """Return the users in a channel, as a client of a node sees them."""
        client = HubClient("observer")
        await client.connect(self.doors[seen_by])
        answer = await client.ask(type="presence", channel=channel)
        await client.close()
        return {member["user_id"] for member in answer["members"]}


def seconds_until(condition: Callable[[], object], what: str = "", patience: float = 60) -> float:
    """Wait until a condition is true. Return the seconds that it took."""
    began = time.monotonic()
    until(condition, what, patience)
    return time.monotonic() - began
