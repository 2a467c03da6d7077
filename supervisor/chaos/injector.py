"""The injector of `wsd chaos`, which causes the faults of a schedule."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from wsd.supervisor.chaos.faults import Fault, Planned, pick
from wsd.supervisor.chaos.nodes import LocalNode
from wsd.supervisor.chaos.redis_faults import RedisFaults
from wsd.supervisor.control.status import ClusterStatus, ProcessStatus
from wsd.supervisor.errors import CommandError, NotRunningError
from wsd.supervisor.machine.pidfd import pidfd_of, send_signal

PATIENCE_SECONDS = 45.0
"""How long a fault waits for a process that it can hit, or for a command to succeed."""

PAUSE_SECONDS = 0.3
"""Seconds between two attempts."""


class Injector:
    """Causes faults in running nodes."""

    def __init__(
        self,
        nodes: Sequence[LocalNode],
        redis: RedisFaults,
        kill_listeners: Callable[[], object],
        drop_client: Callable[[float], None],
    ) -> None:
        """Prepare the injector.

        `kill_listeners` cuts all subscribed connections to Redis. `drop_client` drops the client that a number from 0
        to 1 selects.
        """
        self._nodes = nodes
        self._redis = redis
        self._kill_listeners = kill_listeners
        self._drop_client = drop_client
        self._turn = asyncio.Lock()  # a supervisor carries out one command at a time

    async def inject(self, planned: Planned) -> str:
        """Cause a fault and return a description of what was done. The target is a process that is running now.

        Raises CommandError when the fault could not be injected.
        """
        node = pick(self._nodes, planned.which)
        where = f" of {node.node_id}" if len(self._nodes) > 1 else ""
        match planned.fault:
            case Fault.CLIENT_DROP:
                self._drop_client(planned.which)
                return "dropped a client"
            case Fault.REDIS_FAILOVER:
                return await self._redis.fail_over()
            case Fault.REDIS_KILL:
                return await self._redis.kill()
            case Fault.REDIS_FREEZE:
                return await self._redis.freeze(planned.seconds)
            case Fault.NODE_FREEZE:
                await node.freeze(planned.seconds)
                return f"froze {node.node_id} for {planned.seconds:.1f} s"
            case Fault.NODE_KILL:
                await node.kill_and_start()
                return f"killed {node.node_id} and started it again"
            case Fault.PUBSUB_KILL:
                await self._until_done(node, planned.fault, self._kill_listeners)
                return planned.fault
            case Fault.RESTART | Fault.UPGRADE:
                command = node.restart if planned.fault is Fault.RESTART else node.upgrade
                await self._until_done(node, planned.fault, command)
                return f"{planned.fault}{where}"
        target, pidfd = await self._open_target(node, planned)
        try:
            return await self._signal(planned, target, pidfd) + where
        except ProcessLookupError:
            return f"{planned.fault}: {target.name}{where} ended by itself"
        finally:
            os.close(pidfd)

    async def _until_done(self, node: LocalNode, fault: Fault, command: Callable[[], object]) -> None:
        """Run a command, and try again if another fault made it fail. Raises CommandError when it keeps failing."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        async with self._turn:
            while True:
                try:
                    await asyncio.to_thread(command)
                except CommandError as exc:
                    if self._is_over(node, exc):
                        raise
                    if time.monotonic() > deadline:
                        raise CommandError(f"{fault}: {exc}") from None
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    return

    def _is_over(self, node: LocalNode, exc: Exception) -> bool:
        """Tell whether an error means that the node has ended for good. One that was killed is started again."""
        return isinstance(exc, NotRunningError) and not node.busy.locked()

    async def _open_target(self, node: LocalNode, planned: Planned) -> tuple[ProcessStatus, int]:
        """Wait for a process that the fault can hit. Return it with a pidfd of it.

        Raises CommandError when there is no such process for PATIENCE_SECONDS.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                ready = _ready(planned.fault, await asyncio.to_thread(node.status))
                if ready:
                    target = pick(ready, planned.which * len(self._nodes) % 1)
                    assert target.pid is not None
                    pidfd = pidfd_of(target.pid)
                    # The pid may have been reused before the pidfd was opened. It was not if the status still names it.
                    if target.pid in [one.pid for one in _ready(planned.fault, await asyncio.to_thread(node.status))]:
                        return target, pidfd
                    os.close(pidfd)
                problem = "no process is ready for it"
            except (CommandError, OSError) as exc:
                if self._is_over(node, exc):
                    raise
                problem = str(exc)
            if time.monotonic() > deadline:
                raise CommandError(f"{planned.fault}: {problem}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _signal(self, planned: Planned, target: ProcessStatus, pidfd: int) -> str:
        """Send the signals of a fault and return a description. Raises ProcessLookupError when the target has ended."""
        match planned.fault:
            case Fault.WORKER_FREEZE | Fault.VALKEY_FREEZE:
                send_signal(pidfd, signal.SIGSTOP)
                await asyncio.sleep(planned.seconds)
                with suppress(ProcessLookupError):  # the supervisor has replaced the hung process meanwhile
                    send_signal(pidfd, signal.SIGCONT)
                return f"froze {target.name} for {planned.seconds:.1f} s"
            case Fault.NGINX_RELOAD:
                send_signal(pidfd, signal.SIGHUP)
                return f"reloaded {target.name}"
            case Fault.WORKER_STOP:
                send_signal(pidfd, signal.SIGTERM)
                return f"stopped {target.name}"
            case _:
                send_signal(pidfd, signal.SIGKILL)
                return f"killed {target.name}"


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
