"""Run nginx in front of the workers, and let it take over new configurations."""

import asyncio
import os
import re
import signal
import time
from pathlib import Path

from wsd.supervisor.config.file_contents import CERTIFICATE, INCLUDE, Digests, digests
from wsd.supervisor.config.sections import Config
from wsd.supervisor.errors import StartError
from wsd.supervisor.local_tls import unverified_context
from wsd.supervisor.logs.follow import log_size, tail
from wsd.supervisor.processes.process import Process
from wsd.supervisor.processes.service import Command, Service
from wsd.supervisor.processes.slot import Urgency
from wsd.supervisor.services.nginx_config import (
    ALIVE_PATH,
    ENCODING,
    render,
)
from wsd.supervisor.services.nginx_program import (
    check,
    own_user,
    version_of,
)
from wsd.supervisor.state_dir.directory import StateDir

RELOAD_SECONDS = 10.0

IS_FATAL = re.compile(r"[0-9/]+ [0-9:]+ \[emerg\]")
"""A line of nginx's log that says why it does not start. A request's path in that log may hold the word, too."""

BUFFER_DIRECTORIES = ("client_body", "proxy")
"""Those that nginx.conf names, and that our locations use. A test of the configuration makes them, too."""


class NginxService(Service):
    """Runs below the supervisor, unprivileged, with all its files in the state directory."""

    name = "nginx"
    patience = 2.0
    signals = {  # noqa: RUF012
        Urgency.DRAIN: signal.SIGQUIT,
        Urgency.QUICK: signal.SIGTERM,
    }
    # Without their master, nginx's processes serve on: they give up the port and finish their connections.
    orphan_signal = signal.SIGQUIT

    def __init__(self, binary: Path, config: Config, state_dir: StateDir, *, public_socket: int | None = None) -> None:
        """`public_socket`: the descriptor of the public port, where somebody holds it for us."""
        self._binary = binary
        self._public_socket = public_socket
        self._config = config
        self._state_dir = state_dir
        self._prefix = state_dir.nginx
        self._config_path = state_dir.nginx / "nginx.conf"
        self._pid_path = state_dir.nginx / "nginx.pid"
        self._text = ""
        self._is_unread = False
        self.certificate: Digests = {}  # of the files that it has read

    def render(self, config: Config) -> str:
        sockets = [self._state_dir.worker_socket(slot) for slot in range(1, config.cluster.workers + 1)]
        control = self._state_dir.control_socket
        text = render(
            config,
            prefix=self._prefix,
            sockets=sockets,
            control=control,
            user=own_user(),
            version=version_of(self._binary),
        )
        # So that other contents of a file make another configuration, for a supervisor that takes over, too.
        return text + "".join(
            f"# {section}.{key} sha256 {digest}\n"
            for (section, key), digest in digests(config, (*CERTIFICATE, INCLUDE)).items()
        )

    async def prepare(self, config: Config) -> bool:
        """Write the configuration, if nginx takes it; whether it is another than before.

        Raises StartError, and nothing has changed.
        """
        certificate = digests(config, CERTIFICATE)  # first: what changes from now on is read again
        text = self.render(config)
        candidate = self._config_path.with_suffix(".new")
        try:
            candidate.write_text(text, *ENCODING)
        except OSError as exc:
            candidate.unlink(missing_ok=True)
            raise StartError(f"cannot write nginx's configuration {candidate}: {exc.strerror}") from None
        if problem := await asyncio.to_thread(check, self._binary, candidate, self._prefix):
            raise StartError(f"nginx refuses its configuration: {problem}")
        before = self.written()
        candidate.rename(self._config_path)
        self._config = config
        self._text = text
        self.certificate = certificate
        return text != before or self._is_unread

    def written(self) -> str:
        """What its configuration file says now."""
        try:
            return self._config_path.read_text(*ENCODING)
        except OSError:
            return ""

    @property
    def is_as_written(self) -> bool:
        """Whether nobody but us has changed the file, or removed the directories where nginx puts what it buffers."""
        return self.written() == self._text and all((self._prefix / name).is_dir() for name in BUFFER_DIRECTORIES)

    async def reload(self, process: Process | None) -> None:
        """Let it read its configuration, and return once it serves by that; connections stay with the processes
        that have them. Raises StartError when it goes on with the old one."""
        if process is None:
            return  # it will read it when it starts
        self._is_unread = True
        certificate, self.certificate = self.certificate, {}
        before = set(process.children())
        log = self._state_dir.log(self.name)
        log_start = log_size(log)
        process.signal(signal.SIGHUP)
        deadline = time.monotonic() + RELOAD_SECONDS
        while not set(process.children()) - before:
            lines = tail(log, log_start, 20)
            if problem := next((line for line in lines if IS_FATAL.match(line)), None):
                raise StartError(f"nginx goes on with its old configuration: {problem}")
            if time.monotonic() > deadline:
                raise StartError(f"nginx did not take its new configuration within {RELOAD_SECONDS:g} s; see {log}")
            await asyncio.sleep(0.02)
        self._is_unread = False
        self.certificate = certificate

    def command(self, incarnation: int) -> Command:
        self._pid_path.unlink(missing_ok=True)  # of one that was killed
        argv = (str(self._binary), "-p", str(self._prefix), "-e", "stderr", "-c", str(self._config_path))
        if self._public_socket is None:
            return Command(argv, os.environ, directory=self._prefix)
        # As nginx itself hands its sockets to a successor; it takes those that its configuration names.
        return Command(argv, {**os.environ, "NGINX": f"{self._public_socket};"}, (self._public_socket,), self._prefix)

    async def is_ready(self, incarnation: int) -> bool:
        """Whether it has written its pid file, which it does once it holds the port.

        The port alone tells nothing: processes of a killed nginx may still listen for a moment.
        """
        return self._pid_path.exists() and await self.answers(timeout=1)

    async def answers(self, timeout: float) -> bool:
        """Whether it answers a request by itself, whatever the workers do. Where many connect at once, that waits
        behind them."""
        cluster = self._config.cluster
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(cluster.host.strip("[]"), cluster.host.strip("[]"))
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(host, cluster.port)
                try:
                    if self._config.nginx.proxy_protocol:
                        writer.write(b"PROXY UNKNOWN\r\n")
                    if self._config.nginx.tls_certificate:
                        await writer.start_tls(unverified_context())
                    writer.write(f"GET {ALIVE_PATH} HTTP/1.0\r\n\r\n".encode())
                    return bool(await reader.readline())
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
