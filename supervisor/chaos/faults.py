"""The faults of `wsd chaos`: their kinds, a schedule that a seed determines, and the injector that causes them."""

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
    """The kinds of faults, named as `--faults` takes them."""

    WORKER_KILL = "worker-kill"  # SIGKILL
    WORKER_FREEZE = "worker-freeze"  # SIGSTOP, and SIGCONT later if the process still exists
    WORKER_STOP = "worker-stop"  # SIGTERM: the worker drains although the supervisor did not ask for it
    RESTART = "restart"  # `wsd restart`: replaces all workers
    UPGRADE = "upgrade"  # `wsd upgrade`: replaces the supervisor
    NGINX_RELOAD = "nginx-reload"  # SIGHUP
    NGINX_KILL = "nginx-kill"  # SIGKILL
    VALKEY_KILL = "valkey-kill"  # SIGKILL to the embedded Valkey
    VALKEY_FREEZE = "valkey-freeze"  # SIGSTOP, and SIGCONT later
    PUBSUB_KILL = "pubsub-kill"  # CLIENT KILL of all subscribed connections to Redis
    CLIENT_DROP = "client-drop"  # drops a client's connection, as a failing network does


LEAST_GAP, LARGEST_GAP = 1.5, 4.5
"""Seconds between two faults."""

PATIENCE_SECONDS = 45.0
"""How long a fault waits for a process that it can hit, or for a command to succeed."""

PAUSE_SECONDS = 0.3
"""Seconds between two attempts."""

CALM_SECONDS = 5.0
"""Seconds without faults at the beginning and at the end."""


@dataclass(frozen=True)
class Planned:
    """A fault of the schedule."""

    at: float  # seconds from the beginning
    fault: Fault
    which: float  # 0 to 1: selects one of several targets
    seconds: float  # duration of a freeze


def plan(seed: int, duration: float, faults: Collection[Fault]) -> list[Planned]:
    """Make a schedule. The same arguments always give the same schedule."""
    chance = random.Random(seed)
    kinds = sorted(faults)
    found = []
    at = CALM_SECONDS
    while kinds and at < duration - CALM_SECONDS:
        found.append(Planned(at, chance.choice(kinds), chance.random(), chance.uniform(0.5, 8.0)))
        at += chance.uniform(LEAST_GAP, LARGEST_GAP)
    return found


def parse_faults(text: str) -> frozenset[Fault]:
    """Parse a list such as `worker-kill,client-drop`. Raises ConfigError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in [fault.value for fault in Fault]:
            raise ConfigError(f'--faults: there is no fault "{name}", choose from {", ".join(Fault)}')
    return frozenset(map(Fault, names))


class Injector:
    """Causes faults in a running cluster."""

    def __init__(
        self,
        status: Callable[[], ClusterStatus],
        commands: Mapping[Fault, Callable[[], object]],
        drop_client: Callable[[float], None],
    ) -> None:
        """Prepare the injector.

        `status` returns the current status. `commands` carry out the faults that have no single process as their
        target, and return when they have done so. `drop_client` drops the client that a number from 0 to 1 selects.
        """
        self._status = status
        self._commands = commands
        self._drop_client = drop_client
        self._turn = asyncio.Lock()  # the supervisor carries out one command at a time

    async def inject(self, planned: Planned) -> str:
        """Cause a fault and return a description of what was done. The target is a process that is running now.

        Raises CommandError when the fault could not be injected.
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
        """Run a command, and try again if another fault made it fail. Raises CommandError when it keeps failing."""
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
        """Wait for a process that the fault can hit. Return it with a pidfd of it.

        Raises CommandError when there is no such process for PATIENCE_SECONDS.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                ready = _ready(planned.fault, await asyncio.to_thread(self._status))
                if ready:
                    target = pick(ready, planned.which)
                    assert target.pid is not None
                    pidfd = os.pidfd_open(target.pid)
                    # The pid may have been reused before the pidfd was opened. It was not if the status still names it.
                    if target.pid in [one.pid for one in _ready(planned.fault, await asyncio.to_thread(self._status))]:
                        return target, pidfd
                    os.close(pidfd)
                problem = "no process is ready for it"
            except NotRunningError:
                raise
            except (CommandError, OSError) as exc:
                problem = str(exc)
            if time.monotonic() > deadline:
                raise CommandError(f"{planned.fault}: {problem}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _signal(self, planned: Planned, target: ProcessStatus, pidfd: int) -> str:
        """Send the signals of a fault and return a description. Raises ProcessLookupError when the target has ended."""
        match planned.fault:
            case Fault.WORKER_FREEZE | Fault.VALKEY_FREEZE:
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
                await asyncio.sleep(planned.seconds)
                with suppress(ProcessLookupError):  # the supervisor has replaced the hung process meanwhile
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
    """Return the wanted faults for which this cluster has the processes.

    Raises ConfigError when a fault was named on the command line and the cluster has no process for it.
    """
    missing = {fault for fault, process in _needs(status).items() if process is None}
    if len(wanted) < len(Fault) and (impossible := sorted(missing.intersection(wanted))):
        raise ConfigError(f"--faults: this cluster has no process of its own for {', '.join(impossible)}")
    return frozenset(wanted) - missing


def _needs(status: ClusterStatus) -> dict[Fault, object]:
    """Return what some faults need: None if this cluster does not have it."""
    nginx, valkey = status.nginx, status.valkey
    return {
        Fault.NGINX_RELOAD: nginx,
        Fault.NGINX_KILL: nginx,
        Fault.VALKEY_KILL: valkey,
        Fault.VALKEY_FREEZE: valkey,
        Fault.PUBSUB_KILL: status.redis.url,
    }


def _ready(fault: Fault, status: ClusterStatus) -> list[ProcessStatus]:
    """Return the processes that a fault can hit now."""
    found: list[ProcessStatus | None]
    match fault:
        case Fault.WORKER_KILL | Fault.WORKER_FREEZE | Fault.WORKER_STOP:
            found = [*status.workers]
        case Fault.NGINX_RELOAD | Fault.NGINX_KILL:
            found = [status.nginx]
        case _:
            found = [status.valkey]
    return [process for process in found if process is not None and process.state == "ready" and process.pid]


def pick(items: Sequence[T], which: float) -> T:
    """Select an item by a number from 0 to 1."""
    return items[min(len(items) - 1, int(which * len(items)))]
