"""Check the rules of the configuration that concern several settings, or more than the type of one."""

import ipaddress
import re
from collections.abc import Iterator, Mapping

from wsd.supervisor.config.keys import BYTE_KEYS, Key, all_keys
from wsd.supervisor.config.layers import Setting
from wsd.supervisor.config.redis_url import redacted, redis_url_problem
from wsd.supervisor.config.sections import Config
from wsd.supervisor.config.wording import brief
from wsd.supervisor.errors import ConfigError

MAX_TEXT_LENGTH = 32_768
"""Characters of a setting. Workers get the settings in their environment, and Linux bounds a variable at 128 KB."""

MAX_NODE_ID_LENGTH = 255
"""A node id is a part of many keys of Redis. A host name is not longer."""

WILDCARDS = ("", "0.0.0.0", "::")
"""Values of cluster.host that listen on every address, and so name none."""


def check_rules(config: Config, settings: Mapping[Key, Setting]) -> None:
    """What concerns more than one key, or more than its type."""

    def refuse(section: str, key: str, problem: str) -> None:
        source = settings[section, key].source if (section, key) in settings else "default"
        raise ConfigError(f"{source}: {section}.{key} {problem}")

    for section, key, value in _texts(config):
        if "\0" in value:
            refuse(section, key, "must not hold a zero byte")
        if (section, key) not in BYTE_KEYS and not _is_utf8(value):
            refuse(section, key, "must be UTF-8 text")
        if len(value) > MAX_TEXT_LENGTH:
            refuse(section, key, f"must have at most {MAX_TEXT_LENGTH} characters, has {len(value)}")
    cluster, redis, nginx, health = config.cluster, config.redis, config.nginx, config.health
    if redis.url and (problem := redis_url_problem(redis.url)) is not None:
        refuse("redis", "url", f'{problem}, got "{redacted(redis.url)}"')
    if bool(nginx.tls_certificate) != bool(nginx.tls_key):
        missing = "tls_key" if nginx.tls_certificate else "tls_certificate"
        refuse("nginx", missing, "is missing: TLS needs both tls_certificate and tls_key")
    if nginx.tls_redirect_port and not nginx.tls_certificate:
        refuse("nginx", "tls_redirect_port", "needs tls_certificate and tls_key")
    if nginx.acme_webroot and not nginx.tls_redirect_port:
        refuse("nginx", "acme_webroot", "needs nginx.tls_redirect_port, where it is served: 80 for Let's Encrypt")
    if nginx.proxy_protocol and not nginx.trusted_proxies:
        refuse("nginx", "proxy_protocol", "needs nginx.trusted_proxies, the load balancers whose word is believed")
    if nginx.tls_redirect_port == cluster.port:
        refuse("nginx", "tls_redirect_port", f"must differ from cluster.port, got {cluster.port} for both")
    if not re.fullmatch(r"([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+|", nginx.server_name) or len(nginx.server_name) > 253:
        refuse("nginx", "server_name", f'must be a host name like "chat.example.com", got {brief(nginx.server_name)}')
    if nginx.tls_redirect_port and not nginx.server_name and cluster.host.strip("[]") in WILDCARDS:
        refuse("nginx", "tls_redirect_port", "needs nginx.server_name, the host that clients are sent to")
    if cluster.app and not re.fullmatch(r"[\w.]+:[\w.]+", cluster.app):
        refuse("cluster", "app", f"must have the form module:attribute, got {brief(cluster.app)}")
    if not re.fullmatch(r"[\w.:\[\]-]*", cluster.node_id):
        refuse("cluster", "node_id", f"may hold letters, digits and . : _ - only, got {brief(cluster.node_id)}")
    if len(cluster.node_id) > MAX_NODE_ID_LENGTH:
        refuse("cluster", "node_id", f"must have at most {MAX_NODE_ID_LENGTH} characters")
    if problem := host_problem(cluster.host):
        refuse("cluster", "host", problem)
    for key in ("trusted_proxies", "admin_allow"):
        for address in getattr(nginx, key):
            if not is_network(address):
                refuse("nginx", key, f"must hold addresses or networks, got {brief(address)}")
    for name in nginx.admin_hosts:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            refuse("nginx", "admin_hosts", f"must hold host names without a port, got {brief(name)}")
    security = config.security
    for origin in security.allowed_origins:
        if not re.fullmatch(r"\*|null|https?://[^/,\s]+", origin):
            refuse("security", "allowed_origins", f'must hold origins like "https://example.com", got {brief(origin)}')
    for key, hook in (("authenticate", security.authenticate), ("authorize", security.authorize)):
        if hook and not re.fullmatch(r"[\w.]+:[\w.]+", hook):
            refuse("security", key, f"must have the form module:function, got {brief(hook)}")
    for field in config.security.sensitive_fields:
        if not field or "," in field:
            refuse("security", "sensitive_fields", f"must hold names without a comma, got {brief(field)}")
    if health.heartbeat_timeout < 2 * health.heartbeat_interval:
        refuse("health", "heartbeat_timeout", "must be at least twice health.heartbeat_interval")


def _texts(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield the section, the key and the value of every setting that is text, and every item of a list of texts."""
    for section, key in all_keys():
        value = getattr(getattr(config, section), key)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                yield section, key, text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_network(text: str) -> bool:
    """Whether nginx and ipaddress both take the text. ipaddress alone takes any text behind a percent sign."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "%" not in text and re.fullmatch(r"[^/]+(/[0-9]+)?", text) is not None


def host_problem(host: str) -> str | None:
    """Say why nobody can listen on a host, or None.

    An address of IPv4 or IPv6, the latter with or without brackets, is good, and so is a host name.
    """
    shown = brief(host)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if ipaddress.ip_address(bare) and "%" not in bare:  # nginx cannot listen on an address with a zone
            return None
    except ValueError:
        pass
    address, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and host_problem(address) is None:
        return f"must be an address without a port, got {shown}: put {port} into cluster.port"
    labels = host.split(".")
    is_name = len(host) <= 253 and all(  # RFC 1035, 2.3.4
        re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", label) for label in labels
    )
    if not is_name or labels[-1].isdecimal():  # a name that ends in a number is a mistyped address (RFC 3696, 2)
        return f"must be an address or a host name, got {shown}"
    return None
