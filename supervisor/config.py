"""The configuration: one frozen tree, read once from four layers and validated whole.

Command line over environment over wsd.toml over defaults. Every value remembers where it came from, so that
an error and `wsd config` can say it.
"""

import contextlib
import difflib
import functools
import ipaddress
import os
import re
import socket
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec import inspect as types

from wsd.supervisor.errors import ConfigError
from wsd.supervisor.machine.identity import MARK
from wsd.supervisor.redis_url import redis_url_problem
from wsd.worker.contract.environment import ADMIN_ALLOW, INTERNAL_ENV_NAMES, SENSITIVE_FIELDS

MAX_SECONDS = 315_360_000
"""Ten years. Timers of the event loop, of nginx and of Redis overflow somewhere beyond it."""

MAX_COUNT = 1_000_000_000_000_000
"""A petabyte. nginx and Redis refuse what does not fit into 64 bits, in words that name no setting of ours."""

Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
WholeSeconds = Annotated[int, Meta(ge=1, le=MAX_SECONDS)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
PositiveCount = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ClusterConfig(Section, frozen=True):
    workers: Annotated[int, Meta(ge=1, le=256)] = 4
    app: str = ""
    node_id: str = ""
    host: str = "127.0.0.1"
    port: Port = 8000
    state_dir: str = ""
    drain: Literal["close", "wait"] = "close"
    drain_seconds: SecondsOrZero = 30.0


class RedisConfig(Section, frozen=True):
    url: str = ""
    embedded: bool = True
    max_memory: PositiveCount = 268_435_456
    connect_timeout: Seconds = 1.0
    timeout: Seconds = 2.0
    stand_in: bool = True
    breaker_failures: PositiveCount = 1
    breaker_pause: Seconds = 0.5
    breaker_successes: PositiveCount = 1
    spool_messages: Annotated[int, Meta(ge=0, le=16_000)] = 10_000
    spool_bytes: Count = 16_777_216
    compress_from_bytes: Count = 0


class NginxConfig(Section, frozen=True):
    enabled: bool = True
    binary: str = ""
    affinity: Literal["auto", "ip", "least_conn"] = "auto"
    workers: Annotated[int, Meta(ge=0, le=256)] = 0
    worker_connections: Annotated[int, Meta(ge=64, le=1_000_000)] = 8192
    websocket_timeout: WholeSeconds = 604_800
    http_timeout: WholeSeconds = 60
    connect_timeout: WholeSeconds = 5
    max_body_bytes: Count = 1_048_576
    max_header_bytes: Annotated[int, Meta(ge=1024, le=1_048_576)] = 16_384
    handshakes_per_second: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    handshake_burst: Annotated[int, Meta(ge=0, le=1_000_000)] = 200
    handshakes_per_second_per_address: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    handshake_burst_per_address: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000
    max_connections_per_address: Annotated[int, Meta(ge=0, le=65_535)] = 0
    trusted_proxies: tuple[str, ...] = ()
    admin_allow: tuple[str, ...] = ADMIN_ALLOW
    admin_hosts: tuple[str, ...] = ()
    debug_headers: bool = False
    access_log: bool = False
    tls_certificate: str = ""
    tls_key: str = ""
    tls_redirect_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    acme_webroot: str = ""
    hsts_seconds: Annotated[int, Meta(ge=0, le=MAX_SECONDS)] = 31_536_000
    http2: bool = True
    server_name: str = ""
    proxy_protocol: bool = False
    include: str = ""


class HealthConfig(Section, frozen=True):
    heartbeat_interval: Seconds = 1.0
    heartbeat_timeout: Seconds = 5.0
    probe_timeout: Seconds = 2.0
    start_timeout: Seconds = 60.0
    max_rss: Count = 0
    max_age: SecondsOrZero = 0.0
    max_messages: Count = 0


class RestartConfig(Section, frozen=True):
    backoff_initial: Seconds = 0.5
    backoff_max: Seconds = 30.0
    stable_after: Seconds = 10.0
    max_restarts: Count = 10
    window: Seconds = 60.0


class WebSocketConfig(Section, frozen=True):
    session_ttl: Seconds = 3600.0
    trace_ttl: SecondsOrZero = 3600.0
    max_message_bytes: PositiveCount = 65_536
    ping_interval: Seconds = 25.0
    ping_timeout: Seconds = 10.0
    idle_timeout: SecondsOrZero = 0.0
    max_buffer_bytes: PositiveCount = 1_048_576
    max_total_buffer_bytes: PositiveCount = 268_435_456
    write_delay_ms: SecondsOrZero = 0.0
    compression: bool = False
    protocol: Literal["wsd", "uvicorn"] = "wsd"


class SecurityConfig(Section, frozen=True):
    sensitive_fields: tuple[str, ...] = SENSITIVE_FIELDS
    allowed_origins: tuple[str, ...] = ()
    api_key: str = ""
    handshake_timeout: Seconds = 10.0
    messages_per_second: SecondsOrZero = 200.0
    message_burst: PositiveCount = 400
    bytes_per_second: Count = 262_144
    byte_burst: PositiveCount = 2_097_152
    max_connections_per_user: Count = 0
    authenticate: str = ""
    authorize: str = ""
    jwt_secret: str = ""
    jwt_public_key_file: str = ""
    jwt_jwks_file: str = ""
    jwt_algorithms: tuple[str, ...] = ("HS256",)
    jwt_audience: str = ""
    jwt_issuer: str = ""
    jwt_user_claim: str = "sub"
    jwt_username_claim: str = "name"


class DashboardConfig(Section, frozen=True):
    enabled: bool = True
    token: str = ""


class ChannelConfig(Section, frozen=True):
    """Of the channels whose name a pattern matches."""

    history_size: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    history_ttl_seconds: Seconds = 300.0
    presence: Literal["off", "snapshot", "events"] = "snapshot"
    max_members: Count = 0
    slow_readers: Literal["close_and_resume", "conflate", "drop_oldest"] = "close_and_resume"
    receipts: bool = False


class LogConfig(Section, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    max_bytes: Annotated[int, Meta(ge=4096, le=MAX_COUNT)] = 10_485_760
    backups: Annotated[int, Meta(ge=0, le=100)] = 5


class Config(Section, frozen=True):
    cluster: ClusterConfig = ClusterConfig()
    redis: RedisConfig = RedisConfig()
    nginx: NginxConfig = NginxConfig()
    health: HealthConfig = HealthConfig()
    restart: RestartConfig = RestartConfig()
    websocket: WebSocketConfig = WebSocketConfig()
    security: SecurityConfig = SecurityConfig()
    dashboard: DashboardConfig = DashboardConfig()
    log: LogConfig = LogConfig()
    channels: dict[str, ChannelConfig] = msgspec.field(default_factory=lambda: {"*": ChannelConfig()})  # by pattern


CHANNELS = "channels"
SECTIONS: dict[str, type[Section]] = {
    field.name: field.type for field in msgspec.structs.fields(Config) if field.name != CHANNELS
}
FIXED_ENV_NAMES = {"REDIS_URL": ("redis", "url"), "NODE_ID": ("cluster", "node_id")}
OTHER_ENV_NAMES = frozenset({"WSD_CONFIG", "WSD_READY_FD", "WSD_LOCK_FD", MARK}) | INTERNAL_ENV_NAMES
PATH_KEYS = {
    ("cluster", "state_dir"),
    ("nginx", "tls_certificate"),
    ("nginx", "tls_key"),
    ("nginx", "acme_webroot"),
    ("nginx", "include"),
    ("security", "jwt_public_key_file"),
    ("security", "jwt_jwks_file"),
}
"""In wsd.toml a relative path starts from the file's directory, elsewhere from the current one."""

SECRET_KEYS = {("security", "api_key"), ("security", "jwt_secret"), ("dashboard", "token")}
"""Shown to nobody."""

CONFIG_FILE = "wsd.toml"

MAX_FILE_BYTES = 1_048_576
"""A hundred times a wsd.toml with every comment. Reading a device would never end."""

MAX_TEXT_LENGTH = 32_768
"""Characters of a setting. Workers get the settings in their environment, and Linux bounds a variable at 128 KB."""

MAX_NODE_ID_LENGTH = 255
"""A node id is a part of many keys of Redis. A host name is not longer."""

MAX_SHOWN_LENGTH = 200
"""Characters of a wrong value in an error."""

BYTE_KEYS = PATH_KEYS | {("nginx", "binary")}
"""Paths may hold any byte. All other text is UTF-8."""

WILDCARDS = ("", "0.0.0.0", "::")
"""Values of cluster.host that listen on every address, and so name none."""

Key = tuple[str, str]  # section, name; of a channel pattern the section is `channels."room:*"`


@dataclass(frozen=True)
class Setting:
    """A value as somebody wrote it, and where: `--port`, `WSD_PORT`, `wsd.toml line 12`.

    `is_text`: the place holds only text, so a number or a truth value is written as text there.
    """

    value: Any
    source: str
    is_text: bool = False


Layer = dict[Key, Setting]


@dataclass(frozen=True)
class Loaded:
    config: Config
    sources: Mapping[Key, str]  # where the values that are not defaults came from
    warnings: tuple[str, ...]
    directory: Path  # of wsd.toml, or the current one; the application is imported from it
    here: Path  # the current directory; workers start in it
    again: Callable[[], "Loaded"]  # the same layers as they are now; raises ConfigError

    @property
    def node_id(self) -> str:
        return self.config.cluster.node_id or socket.gethostname()

    @property
    def state_dir(self) -> Path:
        # What runs stays where it is, whatever a symbolic link in its path leads to tomorrow.
        return (self.here / (self.config.cluster.state_dir or self.directory / ".wsd")).resolve()


def load(
    options: Mapping[Key, Setting], environ: Mapping[str, str], config_file: str | None, here: Path | None = None
) -> Loaded:
    """Read all layers. `config_file` None means WSD_CONFIG, or wsd.toml in the current directory if it is there.

    `here`: the current directory, where its name is known already. Raises ConfigError.
    """
    named = config_file or environ.get("WSD_CONFIG")
    here = here or current_directory(environ, Path(named).parent if named else None)
    name = named or CONFIG_FILE
    path = here / name
    toml_layer: Layer = {}
    if named or os.path.lexists(path):  # a link that leads nowhere is a mistake, not a missing file
        toml_layer = read_toml(path, name)
    env_layer, warnings = read_environ(environ)
    settings = {**toml_layer, **env_layer, **options}
    for key in PATH_KEYS & settings.keys():
        if isinstance(value := settings[key].value, str) and value:
            settings[key] = replace(settings[key], value=str(here / value))  # those of wsd.toml are absolute already
    return Loaded(
        build(settings),
        {key: setting.source for key, setting in settings.items()},
        warnings,
        path.parent if toml_layer or named else here,
        here,
        again=functools.partial(load, options, environ, config_file, here),
    )


def current_directory(environ: Mapping[str, str], other: Path | None = None) -> Path:
    """Return the current directory by the name that people gave it, not by the one that its symbolic links lead to.

    A deployment points the links elsewhere, and workers that start later are to follow. The shell knows the name; where
    it is not the shell that started us, `other` may be it, the directory of a configuration file.

    Raises ConfigError when the directory has been removed.
    """
    names = [path for path in (Path(environ.get("PWD", "")), other) if path is not None and path.is_absolute()]
    for name in names:
        with contextlib.suppress(OSError):
            if name.samefile("."):
                return name
    try:
        return Path.cwd()
    except FileNotFoundError:
        for name in names:
            if name.is_dir():
                return name
        raise ConfigError("the current directory has been removed; change to another one") from None


def with_workers(config: Config, workers: int) -> Config:
    return msgspec.structs.replace(config, cluster=msgspec.structs.replace(config.cluster, workers=workers))


def build(settings: Mapping[Key, Setting]) -> Config:
    """Validate merged settings into the tree. Raises ConfigError with the first that is wrong."""
    sections: dict[str, Section] = {}
    for name, kind in SECTIONS.items():
        values = {
            key: _convert(section, key, setting) for (section, key), setting in settings.items() if section == name
        }
        sections[name] = kind(**values)
    given: dict[str, dict[str, Any]] = {"*": {}}
    for (section, key), setting in settings.items():
        if (pattern := _pattern_of(section)) is not None:
            given.setdefault(pattern, {})[key] = _convert(section, key, setting)
    channels = {pattern: ChannelConfig(**values) for pattern, values in given.items()}
    config = Config(**sections, channels=channels)  # type: ignore[arg-type]
    _check_whole(config, settings)
    return config


def read_toml(path: Path, name: str = "") -> Layer:
    """Read a file that people call `name`, or as its path.

    Raises ConfigError: unreadable, broken (with the line), or with a section or key we do not know.
    """
    name = name or str(path)
    try:
        text = _read_regular_file(path, name).decode("utf-8-sig")  # editors on Windows write a byte order mark
        document = tomllib.loads(text)
    except OSError as exc:
        link = f", a symbolic link to {os.path.realpath(path)}" if path.is_symlink() else ""
        raise ConfigError(f"cannot read {name}{link}: {exc.strerror}") from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{name} is not valid TOML: it is not UTF-8 text, see byte {exc.start}") from None
    except (ValueError, RecursionError) as exc:  # ValueError: a number with thousands of digits, too
        raise ConfigError(f"{name} is not valid TOML: {exc}") from None
    layer: Layer = {}
    for section, content in document.items():
        if section not in SECTIONS and section != CHANNELS:
            hint = _did_you_mean(section, [*SECTIONS, CHANNELS])
            raise ConfigError(f"{_place(path, text, section)}: unknown section [{section}]{hint}")
        if not isinstance(content, dict):
            wanted = f"[{section}] in single brackets" if isinstance(content, list) else f"[{section}]"
            raise ConfigError(f"{_place(path, text, section)}: {section} must be a section, {wanted}")
        if section == CHANNELS:
            layer.update(_read_channels(path, text, content))
            continue
        for key, value in content.items():
            source = _place(path, text, section, key)
            if key not in SECTIONS[section].__struct_fields__:
                hint = _did_you_mean(key, SECTIONS[section].__struct_fields__) or _section_hint(key)
                raise ConfigError(f"{source}: unknown key {section}.{key}{hint}")
            if (section, key) in PATH_KEYS and isinstance(value, str) and value:
                value = str(path.parent / value)  # noqa: PLW2901
            layer[section, key] = Setting(value, source)
    return layer


def _read_regular_file(path: Path, name: str) -> bytes:
    """Read a file that is known to end. Raises OSError and ConfigError.

    O_NONBLOCK: opening a FIFO must not wait for somebody who writes into it.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError(f"cannot read {name}: it is not a regular file")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"cannot read {name}: it is larger than {MAX_FILE_BYTES} bytes")
    return content


def _read_channels(path: Path, text: str, content: dict[str, Any]) -> Layer:
    """Raises ConfigError."""
    layer: Layer = {}
    for pattern, options in content.items():
        section = _channels_section(pattern)
        written = section if _line_of(text, section, None) else f"{CHANNELS}.{pattern}"
        source = _place(path, text, written if _line_of(text, written, None) else CHANNELS)
        if not isinstance(options, dict):
            raise ConfigError(f'{source}: {CHANNELS}.{pattern} must be a section, [{CHANNELS}."room:*"] say')
        if not re.fullmatch(r"[A-Za-z0-9_.:@/#*-]{1,255}", pattern):
            problem = 'is a pattern of names: A-Z a-z 0-9 _ . : @ / # - and "*" for any of them'
            raise ConfigError(f"{source}: {section} {problem}")
        for key, value in options.items():
            if key not in ChannelConfig.__struct_fields__:
                hint = _did_you_mean(key, ChannelConfig.__struct_fields__)
                raise ConfigError(f"{source}: unknown key {section}.{key}{hint}")
            layer[section, key] = Setting(value, _place(path, text, written, key))
    return layer


def _channels_section(pattern: str) -> str:
    return f'{CHANNELS}."{pattern}"'


def _pattern_of(section: str) -> str | None:
    """The reverse of `_channels_section`, None for another section."""
    return section[len(CHANNELS) + 2 : -1] if section.startswith(CHANNELS + '."') else None


def read_environ(environ: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """The settings in the environment, and a warning for each WSD_ name that is none.

    A warning and no error: others use such names, too (Kubernetes sets WSD_SERVICE_HOST for a service "wsd").
    """
    names = {env_name(*key): key for key in all_keys()} | FIXED_ENV_NAMES
    layer: Layer = {}
    warnings: list[str] = []
    for name, text in sorted(environ.items()):
        if name in names:
            if text:
                layer[names[name]] = Setting(text, name, is_text=True)
        elif name.startswith("WSD_") and name not in OTHER_ENV_NAMES:
            warnings.append(f"{name} is not a setting of wsd{_did_you_mean(name, names)}")
    return layer, tuple(warnings)


def all_keys() -> Iterator[Key]:
    for section, kind in SECTIONS.items():
        for key in kind.__struct_fields__:
            yield section, key


def env_name(section: str, key: str) -> str:
    """`WSD_PORT` for cluster.port, `WSD_NGINX_WORKERS` for nginx.workers."""
    return f"WSD_{key}".upper() if section == "cluster" else f"WSD_{section}_{key}".upper()


def redacted(url: str) -> str:
    """Show a URL without any part of a password, even of a URL that is broken."""
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return "***"
    shown = ""
    if "@" in rest and not rest.startswith("/"):  # a path alone holds no password
        secret, _, rest = rest.rpartition("@")
        if re.search(r"[/?#]", secret):
            return f"{scheme}://***"  # nobody can tell where the password ends
        user, colon, _ = secret.partition(":")
        shown = f"{user}:***@" if colon else "***@"
    place, mark, query = rest.partition("?")
    if not re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?", re.split("[/#]", place, maxsplit=1)[0]):
        return f"{scheme}://***"  # what stands where the port should be may be a password
    values = "&".join(
        re.sub(r"^(?!(?:db|protocol)=)([^=]*)=.*", r"\1=***", part, flags=re.DOTALL) for part in query.split("&")
    )
    return f"{scheme}://{shown}{place}{mark}{values}"


def describe(loaded: Loaded) -> Iterator[str]:
    """The effective configuration as TOML, each value with its source."""
    sections: dict[str, Section] = {section: getattr(loaded.config, section) for section in SECTIONS}
    sections |= {_channels_section(pattern): chosen for pattern, chosen in loaded.config.channels.items()}
    for section, values in sections.items():
        yield f"[{section}]"
        for key in values.__struct_fields__:
            source = loaded.sources.get((section, key), "default")
            value = getattr(values, key)
            if (section, key) in SECRET_KEYS and value:
                value = "***"
            yield f"{key} = {_toml(value)}  # {source}"
        yield ""


def changes(before: Config, after: Config) -> Iterator[tuple[Key, str]]:
    """The keys whose values differ, and what becomes of each, in words."""
    patterns = {_channels_section(pattern): pattern for pattern in (*before.channels, *after.channels)}
    for section in (*SECTIONS, *patterns):
        old, new = (
            config.channels.get(patterns[section], ChannelConfig()) if section in patterns else getattr(config, section)
            for config in (before, after)
        )
        for key in new.__struct_fields__:
            if (was := getattr(old, key)) != (now := getattr(new, key)):
                shown = ("***", "***") if (section, key) in SECRET_KEYS else (_toml(was), _toml(now))
                yield (section, key), f"{section}.{key}: {shown[0]} -> {shown[1]}"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_show(item) for item in value)}]"
    return _show(value)


def _convert(section: str, key: str, setting: Setting) -> Any:
    fields = msgspec.structs.fields(SECTIONS.get(section, ChannelConfig))
    wanted = next(field.type for field in fields if field.name == key)
    value = setting.value
    if setting.is_text:
        match types.type_info(wanted):
            case types.VarTupleType():
                value = [part.strip() for part in value.split(",")]
            case types.BoolType():
                value = {"yes": True, "on": True, "no": False, "off": False}.get(value.lower(), value)
    try:
        return msgspec.convert(value, wanted, strict=not setting.is_text)
    except (msgspec.ValidationError, UnicodeError):  # UnicodeError: bytes of the environment that are not UTF-8
        is_secret = (section, key) in {*SECRET_KEYS, ("redis", "url")}
        shown = "something else" if is_secret else _brief(value)
        problem = f"{section}.{key} must be {_describe(wanted, value)}, got {shown}"
        raise ConfigError(f"{setting.source}: {problem}") from None


def _check_whole(config: Config, settings: Mapping[Key, Setting]) -> None:
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
        refuse("nginx", "server_name", f'must be a host name like "chat.example.com", got {_brief(nginx.server_name)}')
    if nginx.tls_redirect_port and not nginx.server_name and cluster.host.strip("[]") in WILDCARDS:
        refuse("nginx", "tls_redirect_port", "needs nginx.server_name, the host that clients are sent to")
    if cluster.app and not re.fullmatch(r"[\w.]+:[\w.]+", cluster.app):
        refuse("cluster", "app", f"must have the form module:attribute, got {_brief(cluster.app)}")
    if not re.fullmatch(r"[\w.:\[\]-]*", cluster.node_id):
        refuse("cluster", "node_id", f"may hold letters, digits and . : _ - only, got {_brief(cluster.node_id)}")
    if len(cluster.node_id) > MAX_NODE_ID_LENGTH:
        refuse("cluster", "node_id", f"must have at most {MAX_NODE_ID_LENGTH} characters")
    if problem := host_problem(cluster.host):
        refuse("cluster", "host", problem)
    for key in ("trusted_proxies", "admin_allow"):
        for address in getattr(nginx, key):
            if not is_network(address):
                refuse("nginx", key, f"must hold addresses or networks, got {_brief(address)}")
    for name in nginx.admin_hosts:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            refuse("nginx", "admin_hosts", f"must hold host names without a port, got {_brief(name)}")
    security = config.security
    for origin in security.allowed_origins:
        if not re.fullmatch(r"\*|null|https?://[^/,\s]+", origin):
            refuse("security", "allowed_origins", f'must hold origins like "https://example.com", got {_brief(origin)}')
    for key, hook in (("authenticate", security.authenticate), ("authorize", security.authorize)):
        if hook and not re.fullmatch(r"[\w.]+:[\w.]+", hook):
            refuse("security", key, f"must have the form module:function, got {_brief(hook)}")
    for field in config.security.sensitive_fields:
        if not field or "," in field:
            refuse("security", "sensitive_fields", f"must hold names without a comma, got {_brief(field)}")
    if health.heartbeat_timeout < 2 * health.heartbeat_interval:
        refuse("health", "heartbeat_timeout", "must be at least twice health.heartbeat_interval")


def _texts(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield the section, the key and the value of every setting that is text, and every item of a list of texts."""
    for section, key in all_keys():
        value = getattr(getattr(config, section), key)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                yield section, key, text


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
    shown = _brief(host)
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


def _describe(wanted: Any, value: Any) -> str:
    """Say in words which values a type takes: `an integer from 1 to 256`.

    A limit that is only there against nonsense is named where `value` is beyond it.
    """
    info = types.type_info(wanted)
    match info:
        case types.BoolType():
            return "true or false"
        case types.StrType():
            return "a string"
        case types.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in info.values)
        case types.VarTupleType():
            return "a list of strings"
        case types.IntType() | types.FloatType():
            noun = "an integer" if isinstance(info, types.IntType) else "a number"
            if info.le in (MAX_SECONDS, MAX_COUNT):
                with contextlib.suppress(TypeError, ValueError, OverflowError):
                    if float(value) > info.le:
                        return f"{noun} of at most {info.le}"
            elif info.ge is not None and info.le is not None:
                return f"{noun} from {info.ge} to {info.le}"
            if info.ge is not None:
                return f"{noun} of at least {info.ge}"
            return f"{noun} above {info.gt}"
    raise AssertionError(f"no words for {wanted}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _show(value: object) -> str:
    if isinstance(value, str):
        return f'"{redacted(value) if "://" in value else value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def _brief(value: object) -> str:
    """Show a value in an error: its beginning, where it is long."""
    try:
        text = _show(value)
    except ValueError:
        return "a number with thousands of digits"
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}…"


def _place(path: Path, text: str, section: str, key: str | None = None) -> str:
    """Say where a section or key stands: `wsd.toml line 12`; an unusual form is not found, and has no line."""
    line = _line_of(text, section, key)
    return f"{path.name} line {line}" if line else path.name


def _line_of(text: str, section: str, key: str | None) -> int:
    """The line a section or key of a TOML text stands in; the section's, where the key has an unusual form.

    0 where it is not found.
    """
    found = 0
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*\[{{0,2}}\s*[\"']?{re.escape(section)}[\"']?\s*[\].=]", line):
            found, inside = number, True
            if key is None:
                return number
        elif line.lstrip().startswith("["):
            inside = False
        elif inside and key is not None and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line):
            return number
    return found


def _did_you_mean(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {close[0]}?" if close else ""


def _section_hint(key: str) -> str:
    homes = [section for section, name in all_keys() if name == key]
    return f", did you mean {homes[0]}.{key}?" if homes else ""
