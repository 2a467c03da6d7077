"""Checks of settings that let strangers do more than they should. The whole list is in docs/security.md."""

import ipaddress
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from wsd.supervisor.config.keys import SECRET_KEYS, api_key_section
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.settings import Config
from wsd.supervisor.monitoring.finding import Finding, ok, warning
from wsd.supervisor.services.nginx_config import is_loopback

JWT_SECRET_BYTES = 32
"""The least size of a key for HS256 (RFC 7518, section 3.2): that of the hash."""

TOKEN_BYTES = 16
"""The least size of a token: 128 bits if its bytes are random, while shorter ones are often words."""

KEY_COMMAND = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def exposure(loaded: Loaded) -> Iterator[Finding]:
    """Yield all findings about what others can reach, or one that everything is fine."""
    found = [*risks(loaded.config), *account(os.geteuid())]
    for name in _secret_files(loaded):
        found += readable(name)
    if found:
        yield from found
    elif is_public(loaded.config):
        yield ok("exposure", "reachable from other machines, with the settings that docs/security.md recommends")
    else:
        yield ok("exposure", f"{loaded.config.cluster.host}: reachable from this machine only")


def account(uid: int) -> Iterator[Finding]:
    """Warn about running as root. Pure."""
    if uid == 0:
        yield warning(
            "user",
            "wsd runs as root: an attacker who takes over a worker owns the machine",
            "run it as its own user, e.g. with the unit of `wsd init --systemd`; ports from 1024 on need no root",
        )


def risks(config: Config) -> Iterator[Finding]:
    """Warn about risky settings. Pure."""
    yield from _weak_secrets(config)
    yield from _too_wide(config)
    if not is_public(config):
        return
    security, nginx, host = config.security, config.nginx, config.cluster.host
    if not config.cluster.app and not authenticates(config):
        yield warning(
            "authentication",
            f"{host} is reachable from other machines, and every client may claim to be any user",
            "set one of security.jwt_* or security.authenticate; or cluster.host = 127.0.0.1",
        )
    if not nginx.tls_certificate and not nginx.trusted_proxies:
        yield warning(
            "TLS",
            f"{host} is reachable from other machines without TLS: tokens and messages can be read on the way",
            "set nginx.tls_certificate and tls_key, or name the proxy that terminates TLS in nginx.trusted_proxies",
        )
    if not nginx.enabled:
        yield warning(
            "nginx",
            "nginx.enabled is false: slow headers, handshakes and connections per address are not limited",
            "put nginx or another proxy in front of the workers",
        )
    elif not nginx.max_connections_per_address and not security.max_connections_per_user:
        yield warning(
            "connections",
            "one client may use up all connections",
            "set nginx.max_connections_per_address, or security.max_connections_per_user",
        )
    for key in ("messages_per_second", "bytes_per_second"):
        if not getattr(security, key):
            yield warning("messages", f"security.{key} is 0: one client may fill Redis", "set a limit")


def _weak_secrets(config: Config) -> Iterator[Finding]:
    security = config.security
    secrets = [
        ("security.jwt_secret", security.jwt_secret, JWT_SECRET_BYTES),
        ("security.api_key", security.api_key, TOKEN_BYTES),
        ("dashboard.token", config.dashboard.token, TOKEN_BYTES),
        ("cluster.cluster_key", config.cluster.cluster_key, TOKEN_BYTES),
        *((f"{api_key_section(name)}.key", each.key, TOKEN_BYTES) for name, each in config.api_keys.items()),
    ]
    for name, secret, least in secrets:
        if secret and (len(secret.encode()) < least or len(set(secret)) < least // 3):
            yield warning(
                name, "is short or repetitive, and can be guessed", f"use {least} random bytes, e.g. of {KEY_COMMAND}"
            )


def _too_wide(config: Config) -> Iterator[Finding]:
    origins = [origin for origin in config.security.allowed_origins if origin in ("*", "null")]
    if origins:
        yield warning(
            "security.allowed_origins",
            f"{', '.join(origins)}: pages of every site may connect on behalf of their visitors, with their cookies",
            "list the origins of your own pages",
        )
    remedy = "list the addresses of your proxies and of your own machines"
    for key, networks, what in (
        ("trusted_proxies", config.nginx.trusted_proxies, "every client may claim any address"),
        ("admin_allow", config.nginx.admin_allow, "every client may read /metrics and the statistics"),
    ):
        wide = [network for network in networks if ipaddress.ip_network(network, strict=False).prefixlen == 0]
        if wide:
            yield warning(f"nginx.{key}", f"{', '.join(wide)}: {what}", remedy)
    url = urlsplit(config.redis.url)
    if url.scheme == "redis" and not is_loopback(url.hostname or ""):
        if not url.password:
            yield warning("redis.url", "no password for a Redis on another machine", "set requirepass or an ACL user")
        else:
            yield warning("redis.url", "password and messages are sent unencrypted", "use rediss://")


def readable(path: Path) -> Iterator[Finding]:
    """Warn about a file with secrets that other users may read."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # another check reports files that do not exist
    if mode & stat.S_IROTH:
        yield warning(
            path.name, f"{path} holds a secret, but all users of this machine may read it", f"chmod 600 {path}"
        )


def _secret_files(loaded: Loaded) -> Iterator[Path]:
    """Yield the files that hold a secret: wsd.toml if a secret is set in it, and the TLS key."""
    secrets = [(section, key) for section, key in SECRET_KEYS if getattr(getattr(loaded.config, section), key)]
    secrets += [(api_key_section(name), "key") for name in loaded.config.api_keys]
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


def is_public(config: Config) -> bool:
    """Return whether clients on other machines can connect, directly or through a proxy."""
    return not is_loopback(config.cluster.host) or bool(config.nginx.trusted_proxies)


def authenticates(config: Config) -> bool:
    security = config.security
    keys = (security.jwt_secret, security.jwt_public_key_file, security.jwt_jwks_file, security.jwt_jwks_url)
    return bool(security.authenticate or any(keys))
