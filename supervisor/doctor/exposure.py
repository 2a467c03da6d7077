"""`wsd doctor` on settings that let strangers do more than they should. docs/security.md has the whole list."""

import ipaddress
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from wsd.supervisor.config.keys import SECRET_KEYS
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.sections import Config
from wsd.supervisor.monitoring.finding import Finding, ok, warning
from wsd.supervisor.services.nginx_config import is_loopback

JWT_SECRET_BYTES = 32
"""RFC 7518, 3.2: a key of HS256 has the size of the hash at least."""

TOKEN_BYTES = 16
"""128 bits, where each byte is random; fewer can be guessed where somebody chose a word."""

KEY_COMMAND = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


def exposure(loaded: Loaded) -> Iterator[Finding]:
    """All findings about who can reach what."""
    found = [*risks(loaded.config), *account(os.geteuid())]
    for name in _secret_files(loaded):
        found += readable(name)
    if found:
        yield from found
    elif _is_public(loaded.config):
        yield ok("exposure", "beyond this machine, with the settings that docs/security.md asks for")
    else:
        yield ok("exposure", f"{loaded.config.cluster.host}: for this machine alone")


def account(uid: int) -> Iterator[Finding]:
    """Warn of root. Pure."""
    if uid == 0:
        yield warning(
            "user",
            "runs as root: whoever takes over a worker has the machine",
            "run it as a user of its own; `wsd init --systemd` writes a unit; nginx needs no root above port 1023",
        )


def risks(config: Config) -> Iterator[Finding]:
    """Warn of risky settings. Pure."""
    yield from _weak_secrets(config)
    yield from _too_wide(config)
    if not _is_public(config):
        return
    security, nginx, host = config.security, config.nginx, config.cluster.host
    if not config.cluster.app and not _authenticates(config):
        yield warning(
            "authentication",
            f"{host} is reachable from other machines, and everybody there may be any user",
            "set security.jwt_secret, jwt_public_key_file, jwt_jwks_file or authenticate, or cluster.host = 127.0.0.1",
        )
    elif not config.cluster.app and not security.authorize:
        yield warning(
            "authorization",
            "every user may subscribe to, publish in and read each channel",
            "set security.authorize, unless that is meant",
        )
    if not nginx.tls_certificate and not nginx.trusted_proxies:
        yield warning(
            "TLS",
            f"{host} is reachable from other machines without TLS: who is between reads tokens and messages",
            "set nginx.tls_certificate and tls_key, or name the proxy that does it in nginx.trusted_proxies",
        )
    if not nginx.enabled:
        yield warning(
            "nginx",
            "nginx.enabled is false: no limit of header times, handshakes or connections of an address",
            "let nginx stand before the workers, or another proxy",
        )
    elif not nginx.max_connections_per_address and not security.max_connections_per_user:
        yield warning(
            "connections",
            "one client may take all connections",
            "set nginx.max_connections_per_address, or security.max_connections_per_user",
        )
    for key in ("messages_per_second", "bytes_per_second"):
        if not getattr(security, key):
            yield warning("messages", "no limit: one client may fill Redis", f"set security.{key}")


def _weak_secrets(config: Config) -> Iterator[Finding]:
    security = config.security
    secrets = (
        ("security.jwt_secret", security.jwt_secret, JWT_SECRET_BYTES),
        ("security.api_key", security.api_key, TOKEN_BYTES),
        ("dashboard.token", config.dashboard.token, TOKEN_BYTES),
    )
    for name, secret, least in secrets:
        if secret and (len(secret.encode()) < least or len(set(secret)) < least // 3):
            yield warning(
                name, "is short, or the same over and over: it can be guessed", f"{least} random bytes; {KEY_COMMAND}"
            )


def _too_wide(config: Config) -> Iterator[Finding]:
    origins = [origin for origin in config.security.allowed_origins if origin in ("*", "null")]
    if origins:
        yield warning(
            "security.allowed_origins",
            f"{', '.join(origins)}: pages of every site may connect in their visitors' name, with their cookies",
            "name the origins of your own pages",
        )
    remedy = "name the proxies' and your own addresses"
    for key, networks, what in (
        ("trusted_proxies", config.nginx.trusted_proxies, "everybody may say to come from any address"),
        ("admin_allow", config.nginx.admin_allow, "everybody may read /metrics and the statistics"),
    ):
        wide = [network for network in networks if ipaddress.ip_network(network, strict=False).prefixlen == 0]
        if wide:
            yield warning(f"nginx.{key}", f"{', '.join(wide)}: {what}", remedy)
    url = urlsplit(config.redis.url)
    if url.scheme == "redis" and not is_loopback(url.hostname or ""):
        if not url.password:
            yield warning("redis.url", "no password, and another machine", "requirepass or an ACL user, and a firewall")
        else:
            yield warning("redis.url", "password and messages cross the network unencrypted", "use rediss://")


def readable(path: Path) -> Iterator[Finding]:
    """Warn of a file with secrets that others may read."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # the check of nginx, or of the settings, names it
    if mode & stat.S_IROTH:
        yield warning(
            path.name, f"{path} holds a secret, and all users of this machine may read it", f"chmod 600 {path}"
        )


def _secret_files(loaded: Loaded) -> Iterator[Path]:
    """Yield the files that hold a secret. A setting that is empty is none."""
    secrets = [(section, key) for section, key in SECRET_KEYS if getattr(getattr(loaded.config, section), key)]
    given = [loaded.sources[key] for key in secrets if key in loaded.sources]
    if urlsplit(loaded.config.redis.url).password:
        given.append(loaded.sources.get(("redis", "url"), ""))
    for source in given:
        name, separator, _ = source.rpartition(" line ")
        if separator:
            yield loaded.directory / Path(name).name
            break
    if loaded.config.nginx.tls_key:
        yield loaded.directory / loaded.config.nginx.tls_key


def _is_public(config: Config) -> bool:
    """Whether others than this machine's users come to it: directly, or through a proxy before it."""
    return not is_loopback(config.cluster.host) or bool(config.nginx.trusted_proxies)


def _authenticates(config: Config) -> bool:
    security = config.security
    return bool(security.jwt_secret or security.jwt_public_key_file or security.jwt_jwks_file or security.authenticate)
