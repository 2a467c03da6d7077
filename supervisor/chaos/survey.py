"""A survey of the cluster at the end of `wsd chaos`: processes, sockets and sessions, beside what its status says."""

import http.client
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from wsd.supervisor.chaos.verdict import Survey
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.control.status import ClusterStatus, ProcessStatus
from wsd.supervisor.machine.identity import carries_mark
from wsd.supervisor.machine.procfs import stat_of
from wsd.supervisor.processes.recorded import is_alive
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.unix_http import request
from wsd.worker.contract.heartbeat import Heartbeat
from wsd.worker.contract.http_paths import HEALTH_PATH

PROBE_SECONDS = 2.0
MAX_USERS = 100
"""For how many clients the sessions are looked up."""

PROGRAMS = (b"wsd.worker", b"nginx: master", b"valkey-server", b"redis-server")
"""What the command line of a cluster's own process contains. An application may have other child processes."""


def look(state_dir: StateDir, control: ControlClient, users: Sequence[str]) -> Survey:
    """Survey a cluster and the sessions of these users. Raises CommandError when the supervisor does not answer."""
    status = msgspec.json.decode(control.call("GET", "/v1/status"), type=ClusterStatus)
    shown: list[ProcessStatus | None] = [*status.workers, status.nginx, status.valkey]
    named = {process.pid: process.name for process in shown if process is not None and process.pid is not None}
    workers = [worker for worker in status.workers if worker.state != "drained"]
    records = state_dir.read_state().processes
    return Survey(
        state=status.state,
        problems=tuple(status.problems),
        named=named,
        recorded={record.pid: record.draining for record in records if is_alive(record, state_dir.root)},
        others={pid: name for pid, name in _programs(state_dir.root) if pid not in named},
        expected_workers={worker.name: worker.worker_id or "" for worker in workers},
        answering_workers={worker.name: _who_answers(state_dir.worker_socket(worker.slot)) for worker in workers},
        sessions={user: _workers_of(control, user) for user in users[:MAX_USERS]} if status.redis.url else {},
    )


def _programs(root: Path) -> Iterator[tuple[int, str]]:
    """Yield pid and command line of each program of the cluster in `root`, also of those that no supervisor knows.

    Only leaders of process groups are listed, not their children.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        stat = stat_of(pid)
        if stat is None or stat.group != pid or stat.has_ended or not carries_mark(pid, root):
            continue
        try:
            command_line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if any(program in command_line for program in PROGRAMS):
            yield pid, command_line.decode(errors="replace").strip()[:60]


def _who_answers(path: Path) -> str:
    """Return the id of the worker that listens on a socket, or an empty string."""
    try:
        _, body = request(path, "GET", HEALTH_PATH, PROBE_SECONDS)
        return Heartbeat.from_health(body).worker_id
    except (OSError, http.client.HTTPException, ValueError):
        return ""


def _workers_of(control: ControlClient, user: str) -> tuple[str, ...]:
    """Return the workers that the connected sessions of a user name. Raises CommandError."""
    answer = json.loads(control.call("GET", f"/v1/sessions?{urlencode({'user': user, 'limit': 100, 'offset': 0})}"))
    return tuple(session["worker_id"] for session in answer["sessions"] if session["state"] == "connected")
