"""The servers that are compared, and how each is installed, started and stopped."""

import json
import os
import shutil
import socket
import string
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fanout.dialects import NCHAN, PLAIN, SOCKET_IO, WSD, Dialect
from benchmarks.messages import wait_for
from wsd.supervisor.services.valkey import find_binary
from wsd.worker.contract.environment import WorkerEnv

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".bench"
SERVERS = Path(__file__).parent / "servers"
VENV, NODE = CACHE / "venv", CACHE / "node"
PYTHON_PACKAGES = (
    "channels",
    "channels_redis",
    "django",
    "hiredis",
    "matplotlib",
    "python-socketio",
    "redis",
    "socketify",
    "starlette",
    "uvicorn[standard]",
)
NODE_PACKAGES = ("ws", "socket.io", "@socket.io/redis-adapter", "redis", "@oven/bun-linux-x64")
SERVER_CORE, CLIENT_CORE = 0, 1


class NotAvailableError(Exception):
    """A server cannot be installed on this machine. The message says why."""


@dataclass
class Running:
    """A running server: its ports and the processes whose CPU time is measured."""

    ports: list[int]
    server: list[int] = field(default_factory=list)  # pids
    redis: list[int] = field(default_factory=list)
    nginx: list[int] = field(default_factory=list)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def run(self, command: Sequence[str], cwd: Path, core: int, env: dict[str, str] | None = None) -> int:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=subprocess.DEVNULL,
            stderr=(cwd / "errors.log").open("ab"),
        )
        os.sched_setaffinity(process.pid, {core})
        self.processes.append(process)
        return process.pid

    def valkey(self, directory: Path) -> str:
        port = free_port()
        command = [
            str(find_binary()),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(directory),
        ]
        self.redis.append(self.run(command, directory, CLIENT_CORE))
        wait_for(lambda: listening(port))
        return f"redis://127.0.0.1:{port}"

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


Start = Callable[[Running, Path], None]


@dataclass(frozen=True)
class Peer:
    """A server of the comparison."""

    name: str
    start: Start
    dialect: Dialect
    install: Callable[[], None] = lambda: None
    rooms: bool = True  # it supports several channels
    echoes: bool = True

    @contextmanager
    def running(self, directory: Path) -> Iterator[Running]:
        server = Running([])
        try:
            self.start(server, directory)
            yield server
        finally:
            server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listen(server: Running, directory: Path, command: Iterable[str]) -> None:
    """Start one process on a free port, which replaces `{port}` in its command."""
    port = free_port()
    parts = [part.replace("{port}", str(port)) for part in command]
    server.server.append(server.run(parts, directory, SERVER_CORE))
    server.ports.append(port)
    wait_for(lambda: listening(port))


def script(interpreter: Callable[[], str], name: str, *, redis: bool | None = None) -> Start:
    """Start a script of the folder `servers`.

    `redis` says whether it gets the address of a Redis (True) or an empty one (False); None: it takes no such argument.
    """

    def start(server: Running, directory: Path) -> None:
        arguments = [] if redis is None else [server.valkey(directory) if redis else ""]
        listen(server, directory, [interpreter(), str(SERVERS / name), "{port}", *arguments])

    return start


def wsd(*, redis: bool, workers: int = 1, channels: str = "", app: str = "") -> Start:
    def start(server: Running, directory: Path) -> None:
        url = server.valkey(directory) if redis else ""
        for number in range(1, workers + 1):
            port = free_port()
            env = WorkerEnv(
                worker_id=f"worker-{number}",
                node_id="bench",
                redis_url=url,
                listen=f"127.0.0.1:{port}",
                app=app,
                messages_per_second=0.0,
                bytes_per_second=0.0,
                channels=channels,
                log_level="error",
            )
            command = [sys.executable, "-m", "wsd.worker"]
            env_of = {**env.to_env(), "PYTHONPATH": str(SERVERS)}
            server.server.append(server.run(command, directory, SERVER_CORE, env_of))
            server.ports.append(port)
            wait_for(lambda port=port: listening(port))

    return start


def cluster(*, app: str = "", protocol: str = "wsd") -> Start:
    """Run `wsd start` with one worker behind nginx, and a Valkey."""

    def start(server: Running, directory: Path) -> None:
        port = free_port()
        settings = f'[cluster]\nport = {port}\nworkers = 1\napp = "{app}"\n[security]\nmessages_per_second = 0\n'
        settings += "bytes_per_second = 0\n"
        settings += f'[websocket]\nprotocol = "{protocol}"\n[nginx]\nworkers = 1\nworker_connections = 32768\n'
        (directory / "wsd.toml").write_text(settings)
        command = [sys.executable, "-m", "wsd.supervisor"]
        server.run([*command, "start"], directory, SERVER_CORE, {"PYTHONPATH": str(SERVERS)})

        found: dict[str, Any] = {}

        def is_up() -> bool:
            asked = subprocess.run([*command, "status", "--json"], cwd=directory, capture_output=True, check=False)
            if asked.returncode == 0:
                found.update(json.loads(asked.stdout))
            return bool(found) and all(each["state"] == "ready" for each in (*found["workers"], found["nginx"]))

        wait_for(is_up)
        server.server += [worker["pid"] for worker in found["workers"]]
        server.nginx.append(found["nginx"]["pid"])
        server.redis.append(found["valkey"]["pid"])
        os.sched_setaffinity(found["valkey"]["pid"], {CLIENT_CORE})
        server.ports.append(port)

    return start


def nchan(server: Running, directory: Path) -> None:
    port = free_port()
    template = string.Template((SERVERS / "nchan.conf").read_text())
    config = template.substitute(module=NCHAN_MODULE, directory=directory, port=port)
    (directory / "nginx.conf").write_text(config)
    pid = server.run([NGINX, "-c", str(directory / "nginx.conf"), "-p", str(directory)], directory, SERVER_CORE)
    server.server.append(pid)
    server.ports.append(port)
    wait_for(lambda: listening(port))


NGINX, NCHAN_MODULE = "/usr/sbin/nginx", "/usr/lib/nginx/modules/ngx_nchan_module.so"


# Installation


def checked(command: Sequence[str], cwd: Path | None = None) -> None:
    """Run a command of an installation. Raises NotAvailableError when it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotAvailableError(str(exc)) from None
    if done.returncode:
        raise NotAvailableError((done.stderr.strip().splitlines() or ["failed"])[-1][:200])


def python_packages() -> None:
    if not (VENV / ".installed").exists():
        checked([sys.executable, "-m", "venv", str(VENV)])
        checked([str(VENV / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *PYTHON_PACKAGES])
        (VENV / ".installed").touch()


def node_packages() -> None:
    if shutil.which("npm") is None:
        raise NotAvailableError("npm is not installed")
    if not (NODE / ".installed").exists():
        NODE.mkdir(parents=True, exist_ok=True)
        checked(["npm", "install", "--prefix", str(NODE), "--no-audit", "--no-fund", *NODE_PACKAGES], NODE)
        (NODE / ".installed").touch()
    for name in SERVERS.glob("*.*js"):
        shutil.copy(name, NODE)  # node looks for packages beside the script


def floor() -> None:
    if shutil.which("cc") is None:
        raise NotAvailableError("no C compiler")
    CACHE.mkdir(exist_ok=True)
    checked(["cc", "-O2", "-o", str(CACHE / "floor"), str(SERVERS / "floor.c")])


def debian_nchan() -> None:
    if Path(NCHAN_MODULE).exists():
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NotAvailableError("needs Debian's libnginx-mod-nchan")
    install = ["apt-get", "install", "-y", "--no-install-recommends", "nginx", "libnginx-mod-nchan"]
    checked(["env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", *install])  # RUNLEVEL=1: apt must not start nginx


def versions() -> str:
    """Return names and versions of what was installed for the comparison."""
    found = []
    for metadata in VENV.glob("lib/*/site-packages/*.dist-info"):
        name, _, version = metadata.name.removesuffix(".dist-info").rpartition("-")
        if name.lower().replace("_", "-") in {"channels", "channels-redis", "django", "python-socketio", "socketify"}:
            found.append(f"{name} {version}")
    for package in NODE_PACKAGES:
        path = NODE / "node_modules" / package / "package.json"
        if path.exists():
            found.append(f"{package} {json.loads(path.read_text())['version']}")
    return ", ".join(sorted(found, key=str.lower))


def venv_python() -> str:
    return str(VENV / "bin/python")


def node(name: str, *, redis: bool | None = None) -> Start:
    return script(lambda: "node", str(NODE / name), redis=redis)


NO_HISTORY = json.dumps({"*": {"history_size": 0}})

PEERS = (
    Peer("wsd, in memory", wsd(redis=False), WSD),
    Peer("wsd + Valkey", wsd(redis=True), WSD),
    Peer("wsd + Valkey, no history", wsd(redis=True, channels=NO_HISTORY), WSD),
    Peer("wsd, 2 workers + Valkey", wsd(redis=True, workers=2), WSD),
    Peer("wsd + Valkey, behind nginx", cluster(), WSD),
    Peer("Starlette hub on wsd", wsd(redis=False, app="hub_starlette:app"), PLAIN),
    Peer("Starlette hub on uvicorn", script(lambda: sys.executable, "hub_starlette.py"), PLAIN),
    Peer("Starlette hub, behind nginx", cluster(app="hub_starlette:app", protocol="uvicorn"), PLAIN),
    Peer("python-socketio", script(venv_python, "hub_socketio.py", redis=False), SOCKET_IO, python_packages),
    Peer("python-socketio + Redis", script(venv_python, "hub_socketio.py", redis=True), SOCKET_IO, python_packages),
    Peer("Channels + channels_redis", script(venv_python, "hub_channels.py", redis=True), PLAIN, python_packages),
    Peer("socketify", script(venv_python, "hub_socketify.py"), PLAIN, python_packages),
    Peer("node ws", node("hub_ws.mjs"), PLAIN, node_packages),
    Peer("socket.io", node("hub_socketio.mjs"), SOCKET_IO, node_packages),
    Peer("socket.io + redis-adapter", node("hub_socketio.mjs", redis=True), SOCKET_IO, node_packages),
    Peer(
        "Bun publish",
        script(lambda: str(NODE / "node_modules/@oven/bun-linux-x64/bin/bun"), str(NODE / "hub_bun.js")),
        PLAIN,
        node_packages,
    ),
    Peer("nchan", nchan, NCHAN, debian_nchan, rooms=False, echoes=False),
    Peer(
        "C, one write() each",
        lambda server, directory: listen(server, directory, [str(CACHE / "floor"), "{port}"]),
        PLAIN,
        floor,
        rooms=False,
    ),
)
