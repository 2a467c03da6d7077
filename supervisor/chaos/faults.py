"""What `wsd chaos` does to a cluster, and when: a schedule by a seed, and the hand that carries it out."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from wsd.supervisor.control.status import ClusterStatus, ProcessStatus
from wsd.supervisor.errors import CommandError, ConfigError, NotRunningError

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

PATIENCE_SECONDS = 45.0
"""How long a fault waits for a process that it can be done to, or for a command to succeed."""

PAUSE_SECONDS = 0.3
"""Between two attempts."""

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
        self._turn = asyncio.Lock()  # of the commands: the supervisor does one at a time

    async def inject(self, planned: Planned) -> str:
        """Do it to a process that the supervisor shows now; what was done, for people.

        Raises CommandError when it could not be done.
        """
        if planned.fault is Fault.CLIENT_DROP:
            self._drop_client(planned.which)
            return "dropped a client"
        if (command := self._commands.get(planned.fault)) is not None:
            await self._until_done(planned.fault, command)
            return planned.fault
        target, pidfd = await self._open_target(planned)
        try:
            return await self._signal(planned, target, pidfd)
        except ProcessLookupError:
            return f"{planned.fault}: {target.name} ended by itself"
        finally:
            os.close(pidfd)

    async def _until_done(self, fault: Fault, command: Callable[[], object]) -> None:
        """One command at a time, and again when another fault has come in between. Raises CommandError."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        async with self._turn:
            while True:
                try:
                    await asyncio.to_thread(command)
                except NotRunningError:
                    raise
                except CommandError as exc:
                    if time.monotonic() > deadline:
                        raise CommandError(f"{fault}: {exc}") from None
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    return

    async def _open_target(self, planned: Planned) -> tuple[ProcessStatus, int]:
        """Wait for a process that it can be done to; the process, and a descriptor of it. Raises CommandError."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                ready = _ready(planned.fault, await asyncio.to_thread(self._status))
                if ready:
                    target = choose(ready, planned.which)
                    assert target.pid is not None
                    pidfd = os.pidfd_open(target.pid)
                    # Still the same: the descriptor is of the process that status names.
                    if target.pid in [one.pid for one in _ready(planned.fault, await asyncio.to_thread(self._status))]:
                        return target, pidfd
                    os.close(pidfd)
                problem = "there is nothing to do it to"
            except NotRunningError:
                raise
            except (CommandError, OSError) as exc:
                problem = str(exc)
            if time.monotonic() > deadline:
                raise CommandError(f"{planned.fault}: {problem}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _signal(self, planned: Planned, target: ProcessStatus, pidfd: int) -> str:
        """Raises ProcessLookupError when it has ended."""
        match planned.fault:
            case Fault.WORKER_FREEZE | Fault.VALKEY_FREEZE:
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
                await asyncio.sleep(planned.seconds)
                with suppress(ProcessLookupError):  # it was replaced as one that hangs
                    signal.pidfd_send_signal(pidfd, signal.SIGCONT)
                return f"froze {target.name} for {planned.seconds:.1f} s"
            case Fault.NGINX_RELOAD:
                signal.pidfd_send_signal(pidfd, signal.SIGHUP)
                return f"reloaded {target.name}"
            case Fault.WORKER_STOP:
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                return f"stopped {target.name}"
            case _:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return f"killed {target.name}"


def possible(wanted: Collection[Fault], status: ClusterStatus) -> frozenset[Fault]:
    """Return those that this cluster has the processes for.

    Raises ConfigError when some were chosen by name that it has not.
    """
    missing = {fault for fault, process in _needs(status).items() if process is None}
    if len(wanted) < len(Fault) and (impossible := sorted(missing.intersection(wanted))):
        raise ConfigError(f"--faults: this cluster has no process of its own for {', '.join(impossible)}")
    return frozenset(wanted) - missing


def _needs(status: ClusterStatus) -> dict[Fault, object]:
    nginx, valkey = status.nginx, status.valkey
    return {
        Fault.NGINX_RELOAD: nginx,
        Fault.NGINX_KILL: nginx,
        Fault.VALKEY_KILL: valkey,
        Fault.VALKEY_FREEZE: valkey,
        Fault.PUBSUB_KILL: status.redis.url,
    }


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
