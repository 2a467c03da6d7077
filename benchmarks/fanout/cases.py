"""The measurements of one running server."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.fanout.load import Crowd
from benchmarks.fanout.peers import Peer, Running
from wsd.supervisor.percentile import percentile

SECONDS = 1.0
"""How long the load of one figure lasts, without the end of its last burst."""

CHANNELS_EACH = 10
"""How many channels each client joins, in the case of many channels."""

ECHOING = 64
"""How many clients send at the same time, in the case of echoes."""

Figures = dict[str, float]
"""By name: microseconds of CPU per delivery, unless the name says otherwise."""


@dataclass(frozen=True)
class Cpu:
    """CPU seconds by kind of process."""

    server: float
    redis: float
    nginx: float

    @classmethod
    def of(cls, running: Running) -> "Cpu":
        return cls(*(sum(map(cpu_seconds, tree(pids))) for pids in (running.server, running.redis, running.nginx)))

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(self.server - before.server, self.redis - before.redis, self.nginx - before.nginx)


def tree(pids: Iterable[int]) -> set[int]:
    """Return these processes and all their descendants."""
    found = set(pids)
    for pid in pids:
        found.update(child.pid for child in psutil.Process(pid).children(recursive=True))
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, exact to the nanosecond (proc(5), schedstat)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss(pids: Iterable[int]) -> int:
    """Return the memory in bytes, with its part of shared pages (proc(5), smaps_rollup)."""
    total = 0
    for pid in tree(pids):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def per(name: str, used: Cpu, count: int) -> Figures:
    figures = {name: used.server / count * 1e6}
    if used.redis:
        figures[f"{name}, Redis"] = used.redis / count * 1e6
    if used.nginx:
        figures[f"{name}, nginx"] = used.nginx / count * 1e6
    return figures


def measured(name: str, running: Running, burst: Callable[[], int], seconds: float) -> Figures:
    """Return the CPU time per delivery. `burst` makes deliveries and returns their number."""
    burst()
    before, count, started = Cpu.of(running), 0, time.monotonic()
    while time.monotonic() - started < seconds:
        count += burst()
    return per(name, Cpu.of(running).since(before), count)


def one_channel(peer: Peer, running: Running, clients: int, seconds: float, payloads: Iterable[int]) -> Figures:
    """Connect all clients to one channel. Measure one message in flight, and bursts of 16."""
    figures: Figures = {}
    warm_up = Crowd(running.ports, peer.dialect)
    warm_up.connect(50, lambda number: ("c",))
    warm_up.close()
    time.sleep(0.5)
    memory, before, started = pss([*running.server, *running.nginx]), Cpu.of(running), time.monotonic()
    crowd = Crowd(running.ports, peer.dialect)
    try:
        crowd.connect(clients, lambda number: ("c",))
        figures["connects/s"] = clients / (time.monotonic() - started)
        figures |= per("connect", Cpu.of(running).since(before), clients)
        time.sleep(2.0)
        figures["KB idle"] = (pss([*running.server, *running.nginx]) - memory) / clients / 1000
        for size in payloads:
            for window in (1, 16):
                publish = peer.dialect.publish("c", "x" * size) * window

                def burst(publish: bytes = publish, window: int = window) -> int:
                    crowd.expect(lambda number: window)
                    crowd.clients[0].socket.sendall(publish)
                    crowd.receive_all(peer.dialect.mark)
                    return window * clients

                figures |= measured(f"{size} B, W={window}", running, burst, seconds)
    finally:
        crowd.close()
    return figures


def many_channels(peer: Peer, running: Running, clients: int, seconds: float) -> Figures:
    """Measure as many channels as clients, each with ten members and one message in flight."""
    crowd = Crowd(running.ports, peer.dialect)

    def channels(number: int) -> list[str]:
        return [f"c{(number + step) % clients}" for step in range(CHANNELS_EACH)]

    try:
        crowd.connect(clients, channels)
        messages = [peer.dialect.publish(f"c{number}", "x" * 128) for number in range(clients)]

        def burst() -> int:
            crowd.expect(lambda number: CHANNELS_EACH)
            for client, message in zip(crowd.clients, messages, strict=True):
                client.socket.sendall(message)
            crowd.receive_all(peer.dialect.mark)
            return clients * CHANNELS_EACH

        return measured("many channels", running, burst, seconds)
    finally:
        crowd.close()


def echo(peer: Peer, running: Running, seconds: float) -> Figures:
    """Measure 64 clients, to each of which its own message is sent back."""
    crowd = Crowd(running.ports, peer.dialect)
    try:
        crowd.connect(ECHOING, lambda number: ())
        message = peer.dialect.echo("x" * 128)

        def burst() -> int:
            crowd.expect(lambda number: 1)
            for client in crowd.clients:
                client.socket.sendall(message)
            crowd.receive_all(peer.dialect.echoed)
            return ECHOING

        return measured("echo", running, burst, seconds)
    finally:
        crowd.close()


def latency(peer: Peer, running: Running, seconds: float, clients: int = 100, rate: int = 200) -> Figures:
    """Measure the milliseconds from a send until all 100 clients have the message, at 200 messages per second."""
    crowd = Crowd(running.ports, peer.dialect)
    try:
        crowd.connect(clients, lambda number: ("c",))
        message = peer.dialect.publish("c", "x" * 128)
        found = []
        started = time.monotonic()
        for number in range(int(seconds * rate)):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            crowd.expect(lambda number: 1)
            sent = time.monotonic()
            crowd.clients[0].socket.sendall(message)
            crowd.receive_all(peer.dialect.mark)
            found.append(time.monotonic() - sent)
        found = sorted(found[rate // 4 :])
        return {"latency p50 ms": percentile(found, 0.50) * 1e3, "latency p99 ms": percentile(found, 0.99) * 1e3}
    finally:
        crowd.close()
