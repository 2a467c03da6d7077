"""The service nginx: its command, its configuration file and its reload, and whether it answers."""

import asyncio
import os
import re
import signal
import time
from pathlib import Path

from wsd.supervisor.config.file_contents import CERTIFICATE, INCLUDE, Digests, digests
from wsd.supervisor.config.settings import Config
from wsd.supervisor.errors import StartError
from wsd.supervisor.local_tls import unverified_context
from wsd.supervisor.logs.follow import log_size, tail
from wsd.supervisor.processes.process import Process
from wsd.supervisor.processes.service import Command, Service
from wsd.supervisor.processes.slot import Urgency
from wsd.supervisor.services.nginx_config import ALIVE_PATH, ENCODING, render
from wsd.supervisor.services.nginx_program import check, own_user, version_of
from wsd.supervisor.state_dir.directory import StateDir

RELOAD_SECONDS = 10.0
"""How long nginx may take to start processes with a new configuration."""

IS_FATAL = re.compile(r"[0-9/]+ [0-9:]+ \[emerg\]")
"""Matches a line of nginx's log with the reason why it does not start.

The date is a part of the pattern, since the path of a request in that log may hold "[emerg]", too.
"""

BUFFER_DIRECTORIES = ("client_body", "proxy")
"""The directories of buffered data that nginx.conf names and that its locations use. nginx makes them."""


class NginxService(Service):
    """The nginx in front of the workers. It needs no privileges, and keeps all its files in the state directory."""

    name = "nginx"
    patience = 2.0
    signals = {  # noqa: RUF012
        Urgency.DRAIN: signal.SIGQUIT,
        Urgency.QUICK: signal.SIGTERM,
    }
    # nginx's worker processes go on without their master. On this signal they close the port and finish connections.
    orphan_signal = signal.SIGQUIT

    def __init__(self, binary: Path, config: Config, state_dir: StateDir, *, public_socket: int | None = None) -> None:
        """`public_socket` is the descriptor of the public port, if systemd opened it."""
        self._binary = binary
        self._public_socket = public_socket
        self._config = config
        self._state_dir = state_dir
        self._prefix = state_dir.nginx
        self._config_path = state_dir.nginx / "nginx.conf"
        self._pid_path = state_dir.nginx / "nginx.pid"
        self._text = ""
        self._is_unread = False
        self.certificate: Digests = {}  # of the certificate files, as nginx has read them

    def _render(self, config: Config) -> str:
        """Return the configuration as text, with the digests of the files that it names."""
        sockets = [self._state_dir.worker_socket(slot) for slot in range(1, config.cluster.workers + 1)]
        text = render(
            config,
            prefix=self._prefix,
            sockets=sockets,
            control=self._state_dir.control_socket,
            user=own_user(),
            version=version_of(self._binary),
        )
        # With the digests, a file with new content makes the configuration differ. A supervisor that takes over sees
        # that, too, since it compares with the text on the disk.
        return text + "".join(
            f"# {section}.{key} sha256 {digest}\n"
            for (section, key), digest in digests(config, (*CERTIFICATE, INCLUDE)).items()
        )

    async def prepare(self, config: Config) -> bool:
        """Check the configuration and write it. Return whether nginx has to read it.

        Raises StartError when nginx refuses the configuration, or it cannot be written. The old one is kept then.
        """
        # Read before nginx reads the files: a change in between is noticed later.
        certificate = digests(config, CERTIFICATE)
        text = self._render(config)
        candidate = self._config_path.with_suffix(".new")
        try:
            candidate.write_text(text, *ENCODING)
        except OSError as exc:
            candidate.unlink(missing_ok=True)
            raise StartError(f"cannot write nginx's configuration {candidate}: {exc.strerror}") from None
        if problem := await asyncio.to_thread(check, self._binary, candidate, self._prefix):
            raise StartError(f"nginx refuses its configuration: {problem}")
        before = self._written()
        candidate.rename(self._config_path)
        self._config = config
        self._text = text
        self.certificate = certificate
        return text != before or self._is_unread

    def _written(self) -> str:
        """Return the text of the configuration file, or "" when it cannot be read."""
        try:
            return self._config_path.read_text(*ENCODING)
        except OSError:
            return ""

    @property
    def is_as_written(self) -> bool:
        """True unless somebody else has changed the configuration file, or removed a directory of buffered data."""
        return self._written() == self._text and all((self._prefix / name).is_dir() for name in BUFFER_DIRECTORIES)

    async def reload(self, process: Process | None) -> None:
        """Let nginx read its configuration, and return once it serves with it.

        Connections stay with the processes that have them. `process` is None while nginx does not run.

        Raises StartError when nginx keeps the old configuration.
        """
        if process is None:
            return  # nginx reads the configuration when it starts
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
                raise StartError(f"nginx keeps its old configuration: {problem}")
            if time.monotonic() > deadline:
                raise StartError(f"nginx did not take its new configuration within {RELOAD_SECONDS:g} s; see {log}")
            await asyncio.sleep(0.02)
        self._is_unread = False
        self.certificate = certificate

    def command(self, incarnation: int) -> Command:
        self._pid_path.unlink(missing_ok=True)  # a killed nginx leaves its pid file
        argv = (str(self._binary), "-p", str(self._prefix), "-e", "stderr", "-c", str(self._config_path))
        if self._public_socket is None:
            return Command(argv, os.environ, directory=self._prefix)
        # nginx hands sockets to its successor in this variable, and takes those that its configuration names.
        return Command(argv, {**os.environ, "NGINX": f"{self._public_socket};"}, (self._public_socket,), self._prefix)

    async def is_ready(self, incarnation: int) -> bool:
        """Tell whether nginx has written its pid file, which it does once it listens, and answers.

        An answer alone proves nothing, since processes of a killed nginx may still listen for a moment.
        """
        return self._pid_path.exists() and await self.answers(timeout=1)

    async def answers(self, timeout: float) -> bool:
        """Tell whether nginx answers a request by itself, whatever the state of the workers.

        While many clients connect, the request waits behind theirs. `timeout` is in seconds.
        """
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
