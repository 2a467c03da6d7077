"""Check the rules that a setting's type cannot express, such as those about several settings."""

import re
import shlex
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from wsd.supervisor.config.addresses import host_problem, is_network, key_url_problem
from wsd.supervisor.config.keys import BYTE_KEYS, RULE_PREFIX, Key, all_keys, api_key_section, channels_section
from wsd.supervisor.config.layers import Setting
from wsd.supervisor.config.postgres_rules import postgres_url_problem, table_problem
from wsd.supervisor.config.redis_url import redacted, redis_url_problem
from wsd.supervisor.config.settings import Config
from wsd.supervisor.config.wording import brief
from wsd.supervisor.errors import ConfigError
from wsd.worker.contract.channel_rules import pattern_problem
from wsd.worker.contract.webhook_rules import signing_key, url_problem

MAX_TEXT_LENGTH = 32_768
"""The most characters of a setting. Workers get settings in their environment, where Linux limits one to 128 KB."""

MAX_NODE_ID_LENGTH = 255
"""The most characters of a node id, which is a part of many keys in Redis. A host name is not longer."""

MIN_CLUSTER_KEY_LENGTH = 16
"""The fewest characters of the key that nodes share. Whoever reads Redis can try keys without asking anybody."""

MAX_KEY_LENGTH = 512
"""The most characters of an API key. A request carries it in one header."""

WILDCARDS = ("", "0.0.0.0", "::")
"""Values of cluster.host that mean every address, so that none can be sent to clients."""


Problem = tuple[str, str, str]
"""A section, a key in it, and the rest of the error message."""


def check_rules(config: Config, settings: Mapping[Key, Setting]) -> None:
    """Check the configuration. `settings` are its sources.

    Raises ConfigError for the first rule that is broken.
    """
    for find in (
        _in_texts,
        _in_cluster,
        _in_redis,
        _in_nginx,
        _in_security,
        _in_postgres,
        _in_hooks,
        _in_webhooks,
        _in_archived_channels,
        _in_channels,
        _in_api_keys,
        _in_health,
        _in_alerts,
        _in_scale,
    ):
        for section, key, problem in find(config):
            source = settings[section, key].source if (section, key) in settings else "default"
            raise ConfigError(f"{source}: {section}.{key} {problem}")


def _in_texts(config: Config) -> Iterator[Problem]:
    for section, key, value in _texts(config):
        if "\0" in value:
            yield section, key, "must not hold a zero byte"
        if (section, key) not in BYTE_KEYS and not _is_utf8(value):
            yield section, key, "must be UTF-8 text"
        if len(value) > MAX_TEXT_LENGTH:
            yield section, key, f"must have at most {MAX_TEXT_LENGTH} characters, has {len(value)}"


def _in_cluster(config: Config) -> Iterator[Problem]:
    cluster = config.cluster
    if cluster.app and not re.fullmatch(r"[\w.]+:[\w.]+", cluster.app):
        yield "cluster", "app", f"must have the form module:attribute, such as chat:app, got {brief(cluster.app)}"
    if not re.fullmatch(r"[\w.:\[\]-]*", cluster.node_id):
        yield "cluster", "node_id", f"may hold letters, digits and . : _ - only, got {brief(cluster.node_id)}"
    if len(cluster.node_id) > MAX_NODE_ID_LENGTH:
        yield "cluster", "node_id", f"must have at most {MAX_NODE_ID_LENGTH} characters"
    if problem := host_problem(cluster.host):
        yield "cluster", "host", problem
    if cluster.advertise and not re.fullmatch(r"wss?://[^\s/@]+/\S*", cluster.advertise):
        yield "cluster", "advertise", f"must be a URL like ws://10.0.0.7:8000/ws, got {brief(cluster.advertise)}"
    if cluster.cluster_key and len(cluster.cluster_key) < MIN_CLUSTER_KEY_LENGTH:
        problem = f"must have at least {MIN_CLUSTER_KEY_LENGTH} characters: `openssl rand -hex 32` makes a good one"
        yield "cluster", "cluster_key", problem


def _in_redis(config: Config) -> Iterator[Problem]:
    url = config.redis.url
    if url and (problem := redis_url_problem(url)) is not None:
        yield "redis", "url", f'{problem}, got "{redacted(url)}"'


def _in_nginx(config: Config) -> Iterator[Problem]:
    nginx, cluster = config.nginx, config.cluster
    if bool(nginx.tls_certificate) != bool(nginx.tls_key):
        missing = "tls_key" if nginx.tls_certificate else "tls_certificate"
        yield "nginx", missing, "is missing: TLS needs both tls_certificate and tls_key"
    if nginx.tls_redirect_port and not nginx.tls_certificate:
        yield "nginx", "tls_redirect_port", "needs tls_certificate and tls_key"
    if nginx.acme_webroot and not nginx.tls_redirect_port:
        yield "nginx", "acme_webroot", "needs nginx.tls_redirect_port, where it is served: 80 for Let's Encrypt"
    if nginx.proxy_protocol and not nginx.trusted_proxies:
        yield "nginx", "proxy_protocol", "needs nginx.trusted_proxies, the load balancers whose word is believed"
    if nginx.tls_redirect_port == cluster.port:
        yield "nginx", "tls_redirect_port", f"must differ from cluster.port, got {cluster.port} for both"
    if not re.fullmatch(r"([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+|", nginx.server_name) or len(nginx.server_name) > 253:
        yield "nginx", "server_name", f'must be a host name like "chat.example.com", got {brief(nginx.server_name)}'
    if nginx.tls_redirect_port and not nginx.server_name and cluster.host.strip("[]") in WILDCARDS:
        yield "nginx", "tls_redirect_port", "needs nginx.server_name, the host that clients are sent to"
    for key in ("trusted_proxies", "admin_allow"):
        for address in getattr(nginx, key):
            if not is_network(address):
                yield "nginx", key, f"must hold addresses or networks, got {brief(address)}"
    for name in nginx.admin_hosts:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            yield "nginx", "admin_hosts", f"must hold host names without a port, got {brief(name)}"


def _in_security(config: Config) -> Iterator[Problem]:
    security = config.security
    for origin in security.allowed_origins:
        if not re.fullmatch(r"\*|null|https?://[^/,\s]+", origin):
            yield "security", "allowed_origins", f'must hold origins like "https://example.com", got {brief(origin)}'
    for key, hook in (("authenticate", security.authenticate), ("authorize", security.authorize)):
        if hook and not re.fullmatch(r"[\w.]+:[\w.]+", hook):
            yield "security", key, f"must have the form module:function, got {brief(hook)}"
    if security.jwt_jwks_url and (problem := key_url_problem(security.jwt_jwks_url)):
        yield "security", "jwt_jwks_url", problem
    for field in security.sensitive_fields:
        if not field or "," in field:
            yield "security", "sensitive_fields", f"must hold names without a comma, got {brief(field)}"


def _in_postgres(config: Config) -> Iterator[Problem]:
    postgres = config.postgres
    for key, url in (("url", postgres.url), ("listen_url", postgres.listen_url)):
        if url and (problem := postgres_url_problem(url)) is not None:
            yield "postgres", key, f'{problem}, got "{redacted(url)}"'
    if postgres.listen_url and not postgres.url:
        yield "postgres", "listen_url", "needs postgres.url"
    if (problem := table_problem(postgres.table)) is not None:
        yield "postgres", "table", f"{problem}, got {brief(postgres.table)}"
    if (problem := table_problem(postgres.archive_table)) is not None:
        yield "postgres", "archive_table", f"{problem}, got {brief(postgres.archive_table)}"
    elif postgres.archive_table == postgres.table:
        yield "postgres", "archive_table", "must be another table than postgres.table"


def _in_hooks(config: Config) -> Iterator[Problem]:
    for key in config.hooks.__struct_fields__:
        if (hook := getattr(config.hooks, key)) and not re.fullmatch(r"[\w.]+:[\w.]+", hook):
            yield "hooks", key, f"must have the form module:function, got {brief(hook)}"


def _in_webhooks(config: Config) -> Iterator[Problem]:
    webhooks = config.webhooks
    if not webhooks.url:
        return
    if problem := url_problem(webhooks.url):
        yield "webhooks", "url", problem
    try:
        signing_key(webhooks.secret)
    except ValueError as exc:
        yield "webhooks", "secret", str(exc)
    if not webhooks.events:
        yield "webhooks", "events", "must name at least one event"


def _in_archived_channels(config: Config) -> Iterator[Problem]:
    for pattern, options in config.channels.items():
        if not options.archive:
            continue
        section = channels_section(pattern)
        if not config.postgres.url:
            yield section, "archive", "needs postgres.url: the archive is in PostgreSQL"
        elif not config.redis.url and not config.redis.embedded:
            yield section, "archive", "needs redis.url or redis.embedded: the archive is written from Redis"
        if not options.history_size:
            yield section, "archive", "needs a history: history_size must not be 0"


def _in_channels(config: Config) -> Iterator[Problem]:
    security = config.security
    keys = ("jwt_secret", "jwt_public_key_file", "jwt_jwks_file", "jwt_jwks_url")
    if any(getattr(security, key) for key in keys):
        return
    for pattern, options in config.channels.items():
        for key in options.__struct_fields__:
            if key.startswith(RULE_PREFIX) and getattr(options, key) == "token":
                problem = f'is "token", which needs one of security.{", ".join(keys)}'
                yield channels_section(pattern), key, problem


def _in_api_keys(config: Config) -> Iterator[Problem]:
    owners = {config.security.api_key: "security.api_key"} if config.security.api_key else {}
    for name, chosen in config.api_keys.items():
        section = api_key_section(name)
        if not re.fullmatch(rf"[!-~]{{1,{MAX_KEY_LENGTH}}}", chosen.key):
            yield section, "key", f"must be 1 to {MAX_KEY_LENGTH} visible characters of ASCII, as a header carries them"
        if chosen.key in owners:
            yield section, "key", f"is the key of {owners[chosen.key]}, too: each needs one of its own"
        owners[chosen.key] = section
        if not chosen.rights:
            yield section, "rights", "must name at least one right, or the key could do nothing"
        if not chosen.channels:
            yield section, "channels", 'must hold at least one pattern, such as "*" for all channels'
        for pattern in chosen.channels:
            if problem := pattern_problem(pattern):
                yield section, "channels", f"holds {brief(pattern)}, which {problem}"


def _in_health(config: Config) -> Iterator[Problem]:
    if config.health.heartbeat_timeout < 2 * config.health.heartbeat_interval:
        yield "health", "heartbeat_timeout", "must be at least twice health.heartbeat_interval"


def _in_alerts(config: Config) -> Iterator[Problem]:
    alerts = config.alerts
    try:
        shlex.split(alerts.command)
    except ValueError:
        yield "alerts", "command", f"has a quotation mark without its partner, got {brief(alerts.command)}"
    # The address may hold a secret, so it is not shown.
    problem = "must be a URL like https://alerts.example.com/hook"
    try:
        parts = urlsplit(alerts.url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        yield "alerts", "url", problem
        return
    if alerts.url and not (is_url and re.fullmatch(r"[!-~]+", alerts.url)):
        yield "alerts", "url", problem
    elif parts.username is not None:
        yield "alerts", "url", "must hold no user and no password"


def _in_scale(config: Config) -> Iterator[Problem]:
    scale, workers = config.scale, config.cluster.workers
    if not scale.max:
        return
    if scale.min > scale.max:
        yield "scale", "min", f"must not be above scale.max, which is {scale.max}, got {scale.min}"
    if not scale.connections_per_worker and not scale.cpu:
        yield "scale", "max", "needs scale.connections_per_worker or scale.cpu, the load that a worker is meant to have"
    if not config.redis.url and not config.redis.embedded:
        yield "scale", "max", "needs a Redis, by which the clients of a worker that goes resume on another one"
    if not scale.min <= workers <= scale.max:
        limits = f"scale.min, which is {scale.min}, and scale.max, which is {scale.max}"
        yield "cluster", "workers", f"must be between {limits}, got {workers}"


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
