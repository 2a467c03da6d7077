"""Machines on a network of their own: network namespaces, cables that can be cut, and packets that are lost.

Each machine has a cable to each of two networks. Clients come by the `front`, and Redis is on the `back`, so that a
node can lose its Redis and keep its clients. Everything is named after the process of the test. Needs root.
"""

import ctypes
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import pytest

FRONT, BACK = "10.78.0", "10.77.0"
"""The first three parts of the addresses in the two networks, which exist in these namespaces only."""

_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of setns(2): os.setns exists since Python 3.12."""

_networks = itertools.count(1)
"""The networks of this process, so that each has names of its own."""

_libc = ctypes.CDLL(None, use_errno=True)


def _run(*command: str, check: bool = True) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert not check or result.returncode == 0, f"{' '.join(command)}: {result.stderr}"
    return result.stdout


class Machine:
    """A network namespace: `with machine.inside(): ...` runs code there."""

    def __init__(self, name: str, hub: str, number: int) -> None:
        """`hub`: the namespace with the bridges of both networks. `number`: the last part of the addresses."""
        self.namespace = name
        self.front, self.back = f"{FRONT}.{number}", f"{BACK}.{number}"
        self._hub = hub
        self._cables = {"front": f"f{number}", "back": f"b{number}"}

    def plug(self) -> None:
        _run("ip", "netns", "add", self.namespace)
        _run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        for network, cable in self._cables.items():
            _run("ip", "-n", self._hub, "link", "add", cable, "type", "veth", "peer", network, "netns", self.namespace)
            _run("ip", "-n", self._hub, "link", "set", cable, "master", network, "up")
            address = self.front if network == "front" else self.back
            _run("ip", "-n", self.namespace, "address", "add", f"{address}/24", "dev", network)
            _run("ip", "-n", self.namespace, "link", "set", network, "up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Put the present thread into the namespace, with all sockets, processes and threads that it makes there."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.namespace}") as there:  # noqa: PTH123
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    @contextmanager
    def cut(self, network: str = "back") -> Iterator[None]:
        """Pull the cable to a network for the time of the block."""
        cable = self._cables[network]
        _run("ip", "-n", self._hub, "link", "set", cable, "down")
        try:
            yield
        finally:
            _run("ip", "-n", self._hub, "link", "set", cable, "up")

    @contextmanager
    def losing(self, direction: str, condition: str = "") -> Iterator[None]:
        """Lose the packets that come from the back network ("input"), or go there ("output").

        `condition`: an expression of nftables for those that are lost; all without one.
        """
        hook, interface = {"input": ("input", "iifname"), "output": ("output", "oifname")}[direction]
        nft = ("ip", "netns", "exec", self.namespace, "nft")
        _run(*nft, "add", "table", "inet", "loss")
        _run(*nft, f"add chain inet loss lossy {{ type filter hook {hook} priority 0; }}")
        _run(*nft, f"add rule inet loss lossy {interface} back {condition} drop")
        try:
            yield
        finally:
            _run(*nft, "delete", "table", "inet", "loss")

    @property
    def pids(self) -> list[int]:
        """The processes that run there."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self.namespace).split() if int(pid) != os.getpid()]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes of the machine for the time of the block, as a paused virtual machine does."""
        pids = self.pids
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def knows_neighbour(self, address: str) -> None:
        """Have the machine send packets to an address of the back network, whether somebody is there or not."""
        place = ("lladdr", "02:00:00:00:00:01", "dev", "back")
        _run("ip", "-n", self.namespace, "neighbour", "add", address, *place)


def _signal(pids: list[int], signum: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Machines:
    """Machines by their names, all on the two networks: `with Machines("redis", "n1", "n2") as machines`."""

    def __init__(self, *names: str) -> None:
        prefix = f"wsd{os.getpid()}n{next(_networks)}"
        self._hub = f"{prefix}hub"
        self._machines = {
            name: Machine(f"{prefix}{name}", self._hub, number) for number, name in enumerate(names, start=1)
        }

    def __getitem__(self, name: str) -> Machine:
        return self._machines[name]

    def add_address(self, address: str, name: str) -> None:
        """Give a machine another address in the back network."""
        _run("ip", "-n", self._machines[name].namespace, "address", "add", f"{address}/24", "dev", "back")

    def move_address(self, address: str, old: str, new: str) -> None:
        """Move an address of the back network from one machine to another, as keepalived does."""
        _run("ip", "-n", self._machines[old].namespace, "address", "delete", f"{address}/24", "dev", "back")
        self.add_address(address, new)
        for machine in self._machines.values():  # which learn the new place when they ask, as from an announcement
            _run("ip", "-n", machine.namespace, "neighbour", "flush", "dev", "back")

    def __enter__(self) -> Self:
        try:
            _run("ip", "netns", "add", self._hub)
            for network in ("front", "back"):
                _run("ip", "-n", self._hub, "link", "add", network, "type", "bridge")
                _run("ip", "-n", self._hub, "link", "set", network, "up")
            for machine in self._machines.values():
                machine.plug()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._remove()

    def _remove(self) -> None:
        names = [self._hub, *(machine.namespace for machine in self._machines.values())]
        for name in names:
            for pid in _run("ip", "netns", "pids", name, check=False).split():
                if int(pid) != os.getpid():
                    _run("kill", "-KILL", pid, check=False)
        for name in names:
            _run("ip", "netns", "delete", name, check=False)


def missing_for_namespaces(programs: Sequence[str] = ("ip", "nft")) -> str:
    """Return why network namespaces cannot be made here, or ""."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        return f"needs {' and '.join(missing)}"
    name = f"wsd{os.getpid()}try"
    if os.geteuid() != 0 or subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "needs the right to make network namespaces"
    _run("ip", "netns", "delete", name)
    return ""


@contextmanager
def machines(*names: str) -> Iterator[Machines]:
    """Make machines for the time of the block. Skips the test where that is not possible."""
    if reason := missing_for_namespaces():
        pytest.skip(reason)
    with Machines(*names) as made:
        yield made
