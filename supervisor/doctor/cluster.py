"""Checks of the cluster on this node: its state directory, port, processes, and messages between workers."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator

import msgspec

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.counts import count
from wsd.supervisor.errors import CommandError
from wsd.supervisor.machine.ports import check_port, listen_address
from wsd.supervisor.monitoring.capacity import disk_space
from wsd.supervisor.monitoring.finding import Finding, failure, ok
from wsd.supervisor.processes.recorded import is_alive
from wsd.supervisor.state_dir.directory import StateDir

ANSWER_SECONDS = 5.0


def current_status(state_dir: StateDir) -> ClusterStatus | None:
    """Ask the supervisor for its status; None if it does not answer."""
    with contextlib.suppress(CommandError):
        return msgspec.json.decode(ControlClient(state_dir).call("GET", "/v1/status"), type=ClusterStatus)
    return None


def state_directory(state_dir: StateDir) -> Iterator[Finding]:
    """Check that the state directory is writable, has free space, and that its processes have a supervisor."""
    root = state_dir.root
    there = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield failure("state directory", f"{there} is not writable", "choose another with --state-dir, or chown it")
        return
    yield disk_space(shutil.disk_usage(there).free, str(there))
    alive = [record for record in state_dir.read_state().processes if is_alive(record, root)]
    if alive and state_dir.lock.holder() is None:
        names = ", ".join(record.name for record in alive)
        yield failure(
            "state directory",
            f"the supervisor has ended, but {names} still run",
            "`wsd start` takes them over, `wsd stop` ends them",
        )
    else:
        yield ok("state directory", str(root))


def port(loaded: Loaded, running: ClusterStatus | None, state_dir: StateDir) -> Finding:
    """Check that the public port is free, or used by this cluster."""
    host, number = loaded.config.cluster.host, loaded.config.cluster.port
    where = listen_address(host, number)
    if running is not None:
        return ok("port", f"used by this cluster, {running.url}")
    if any(record.name != "valkey" and is_alive(record, state_dir.root) for record in state_dir.read_state().processes):
        return ok("port", f"used by this cluster, {where}; its supervisor does not answer")
    try:
        check_port(host, number)
    except CommandError as exc:
        return failure("port", str(exc), "stop the other program, or choose another port")
    return ok("port", f"{where} is free")


def processes(state_dir: StateDir, running: ClusterStatus | None) -> Iterator[Finding]:
    """Report the problems that the supervisor sees, and check that its workers reach each other."""
    if running is None:
        yield ok("cluster", f"not running in {state_dir.root}")
        return
    if running.problems:
        for problem in running.problems:
            yield failure("cluster", problem, "see docs/operations.md for what to do, and `wsd logs` for details")
    else:
        yield ok("cluster", f"{running.state}, {count(len(running.workers), 'worker')} on node {running.node_id}")
    if running.redis.url:
        yield worker_round_trip(state_dir)


def worker_round_trip(state_dir: StateDir) -> Finding:
    """Let one worker ask all others over Redis. A worker that receives no messages does not answer."""
    check = "messages between workers"
    try:
        begun = time.monotonic()
        answer = json.loads(ControlClient(state_dir, timeout=ANSWER_SECONDS).call("GET", "/v1/channels?limit=1"))
    except CommandError as exc:
        return failure(check, str(exc), "see `wsd logs` of that worker; `wsd restart` replaces it")
    if not answer["complete"]:
        silent = ", ".join(answer["silent"]) or "some workers"
        remedy = "replace a worker with `wsd restart SLOT` on its node"
        return failure(check, f"no answer over Redis from {silent}", remedy)
    return ok(check, f"all workers answered over Redis within {(time.monotonic() - begun) * 1000:.0f} ms")
