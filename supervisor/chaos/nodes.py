"""The nodes that `wsd chaos` loads, and the faults of a node as a whole."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from wsd.supervisor.chaos.starting import start_again
from wsd.supervisor.control.client import ControlClient, upgrade_and_wait
from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.deploys.upgrade import LOCK_FD_ENV
from wsd.supervisor.errors import CommandError
from wsd.supervisor.launch.detach import READY_FD_ENV
from wsd.supervisor.processes.recorded import is_alive
from wsd.supervisor.state_dir.directory import StateDir

UP_SECONDS = 60.0
"""How long a node that was killed may take until it is healthy again."""

LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Start:
    """The command, directory and environment of a supervisor, with which it is started again."""

    command: Sequence[str]
    directory: Path
    environment: dict[str, str]

    @classmethod
    def of(cls, pid: int) -> "Start":
        """Read how a process was started. Raises OSError."""
        process = Path(f"/proc/{pid}")
        words = [os.fsdecode(word) for word in (process / "cmdline").read_bytes().split(b"\0")[:-1]]
        variables = (
            os.fsdecode(text).partition("=") for text in (process / "environ").read_bytes().split(b"\0") if text
        )
        # Descriptors of the first start mean something else in a new process.
        environment = {name: value for name, _, value in variables if name not in (READY_FD_ENV, LOCK_FD_ENV)}
        return cls(words, (process / "cwd").readlink(), environment)

    def again(self) -> None:
        """Start the supervisor again."""
        start_again(self.command, self.directory, self.environment)


@dataclass
class LocalNode:
    """A node on this machine."""

    node_id: str
    state_dir: StateDir
    control: ControlClient = field(init=False)
    busy: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    """Held by a fault of the node as a whole."""

    def __post_init__(self) -> None:
        self.control = ControlClient(self.state_dir)

    def status(self) -> ClusterStatus:
        """Return the status of the node. Raises CommandError."""
        return msgspec.json.decode(self.control.call("GET", "/v1/status"), type=ClusterStatus)

    def restart(self) -> None:
        """Restart all workers. Raises CommandError when a new process does not become healthy."""
        for line in self.control.follow("/v1/restart", {}):
            if error := json.loads(line).get("error"):
                raise CommandError(error)

    def upgrade(self) -> None:
        """Replace the supervisor. Raises CommandError."""
        upgrade_and_wait(self.state_dir)

    async def freeze(self, seconds: float) -> None:
        """Stop all processes of the node, and let them go on. Raises CommandError."""
        async with self.busy:
            supervisor, groups = await asyncio.to_thread(self._processes)
            _signal(supervisor, groups, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                _signal(supervisor, groups, signal.SIGCONT)

    async def kill_and_start(self) -> None:
        """Kill all processes of the node, start it again, and wait until it is healthy. Raises CommandError."""
        async with self.busy:
            supervisor, groups = await asyncio.to_thread(self._processes)
            try:
                start = Start.of(supervisor)
            except OSError as exc:
                raise CommandError(f"cannot see how node {self.node_id} was started: {exc}") from None
            _signal(supervisor, groups, signal.SIGKILL)
            gives_up_at = time.monotonic() + UP_SECONDS
            while self.state_dir.lock.holder() is not None:
                await asyncio.sleep(LOOK_SECONDS)
                if time.monotonic() > gives_up_at:
                    raise CommandError(f"the supervisor of node {self.node_id} does not end")
            start.again()
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                with suppress(CommandError):
                    if (await asyncio.to_thread(self.status)).state == "healthy":
                        return
                if time.monotonic() > gives_up_at:
                    raise CommandError(f"node {self.node_id} is not healthy {UP_SECONDS:g} s after its start")

    def _processes(self) -> tuple[int, list[int]]:
        """Return the pid of the supervisor, and the process groups of all that it runs. Raises CommandError."""
        supervisor = self.state_dir.lock.holder()
        if supervisor is None:
            raise CommandError(f"no supervisor runs in {self.state_dir.root}")
        records = self.state_dir.read_state().processes
        return supervisor, [record.pid for record in records if is_alive(record, self.state_dir.root)]


def _signal(supervisor: int, groups: Sequence[int], signum: signal.Signals) -> None:
    """Send a signal to the supervisor, and to all others: before it when they go on, after it when they end."""
    first, last = ([], [supervisor]) if signum is signal.SIGCONT else ([supervisor], [])
    for pid in first:
        os.kill(pid, signum)
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signum)
    for pid in last:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def local_nodes(state_dir: StateDir, status: ClusterStatus) -> list[LocalNode]:
    """Return the nodes of the cluster that run on this machine, the one in `state_dir` first.

    Containers of one machine may have the same paths, so the node in a state directory is asked for its id.
    """
    nodes = [LocalNode(status.node_id, state_dir)]
    for node in status.nodes:
        if node.is_on_this_machine and not node.is_this_node and node.state != "gone":
            found = LocalNode(node.node_id, StateDir(Path(node.state_dir)))
            with suppress(CommandError):
                if found.status().node_id == found.node_id:
                    nodes.append(found)
    return nodes
