"""What `wsd chaos` does to a cluster, and when: a schedule by a seed, and the hand that carries it out."""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from wsd.supervisor.errors import ConfigError
from wsd.supervisor.status import ClusterStatus, ProcessStatus

T = TypeVar("T")


class Fault(StrEnum):
    WORKER_KILL = "worker-kill"  # SIGKILL
    WORKER_FREEZE = "worker-freeze"  # SIGSTOP, and SIGCONT if it is there yet
    WORKER_STOP = "worker-stop"  # SIGTERM: it drains, nobody asked for
    RESTART = "restart"  # `wsd restart`: all processes are new
    UPGRADE = "upgrade"  # `wsd upgrade`: the supervisor is new
    NGINX_RELOAD = "nginx-reload"
    NGINX_KILL = "nginx-kill"
    VALKEY_KILL = "valkey-kill"  # the embedded one
    VALKEY_FREEZE = "valkey-freeze"
    PUBSUB_KILL = "pubsub-kill"  # CLIENT KILL of all connections that listen
    CLIENT_DROP = "client-drop"  # a client's own network fails


SHORTEST_PAUSE, LONGEST_PAUSE = 1.5, 4.5
"""Seconds between faults."""

CALM_SECONDS = 5.0
"""Without faults, at the beginning and at the end."""


@dataclass(frozen=True)
class Planned:
    at: float  # seconds from the beginning
    fault: Fault
    which: float  # 0 to 1: of several targets, this one
    seconds: float  # that a freeze lasts


def plan(seed: int, duration: float, faults: Collection[Fault]) -> list[Planned]:
    """The same for the same arguments."""
    chance = random.Random(seed)
    kinds = sorted(faults)
    found = []
    at = CALM_SECONDS
    while kinds and at < duration - CALM_SECONDS:
        found.append(Planned(at, chance.choice(kinds), chance.random(), chance.uniform(0.5, 8.0)))
        at += chance.uniform(SHORTEST_PAUSE, LONGEST_PAUSE)
    return found


def parse_faults(text: str) -> frozenset[Fault]:
    """Of `worker-kill,client-drop`. Raises ConfigError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in [fault.value for fault in Fault]:
            raise ConfigError(f'--faults: there is no fault "{name}", choose from {", ".join(Fault)}')
    return frozenset(map(Fault, names))


class Injector:
    def __init__(
        self,
        status: Callable[[], ClusterStatus],
        commands: Mapping[Fault, Callable[[], object]],
        drop_client: Callable[[float], None],
    ) -> None:
        """`commands` do what is done to all, and return when it is; `drop_client` gets a number from 0 to 1: which
        one."""
        self._status = status
        self._commands = commands
        self._drop_client = drop_client

    async def inject(self, planned: Planned) -> str:
        """Do it to a process that the supervisor shows now; what was done, for people."""
        if planned.fault is Fault.CLIENT_DROP:
            self._drop_client(planned.which)
            return "dropped a client"
        if (command := self._commands.get(planned.fault)) is not None:
            await asyncio.to_thread(command)
            return planned.fault
        ready = _ready(planned.fault, await asyncio.to_thread(self._status))
        if not ready:
            return f"{planned.fault}: nothing there to do it to"
        target = choose(ready, planned.which)
        with suppress(ProcessLookupError):
            assert target.pid is not None
            match planned.fault:
                case Fault.WORKER_FREEZE | Fault.VALKEY_FREEZE:
                    os.kill(target.pid, signal.SIGSTOP)
                    await asyncio.sleep(planned.seconds)
                    os.kill(target.pid, signal.SIGCONT)
                    return f"froze {target.name} for {planned.seconds:.1f} s"
                case Fault.NGINX_RELOAD:
                    os.kill(target.pid, signal.SIGHUP)
                    return f"reloaded {target.name}"
                case Fault.WORKER_STOP:
                    os.kill(target.pid, signal.SIGTERM)
                    return f"stopped {target.name}"
                case _:
                    os.kill(target.pid, signal.SIGKILL)
                    return f"killed {target.name}"
        return f"{planned.fault}: it ended by itself"


def _ready(fault: Fault, status: ClusterStatus) -> list[ProcessStatus]:
    """The processes that it can be done to now."""
    found: list[ProcessStatus | None]
    match fault:
        case Fault.WORKER_KILL | Fault.WORKER_FREEZE | Fault.WORKER_STOP:
            found = [*status.workers]
        case Fault.NGINX_RELOAD | Fault.NGINX_KILL:
            found = [status.nginx]
        case _:
            found = [status.valkey]
    return [process for process in found if process is not None and process.state == "ready" and process.pid]


def choose(items: Sequence[T], which: float) -> T:
    """`which`: from 0 to 1."""
    return items[min(len(items) - 1, int(which * len(items)))]
