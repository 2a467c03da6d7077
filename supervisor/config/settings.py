"""Declare all settings by section: name, type, limits and default. wsd.toml explains what each does."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from wsd.worker.contract.api_keys import ALL_CHANNELS, Right
from wsd.worker.contract.channel_rules import Allowed
from wsd.worker.contract.environment import ADMIN_ALLOW, SENSITIVE_FIELDS
from wsd.worker.contract.webhook_rules import EVENT_TYPES, EventType

MAX_SECONDS = 315_360_000
"""The longest time that can be set, ten years. Timers of the event loop, nginx and Redis overflow beyond it."""

MAX_COUNT = 1_000_000_000_000_000
"""The largest count or size that can be set, a petabyte.

nginx and Redis refuse numbers beyond 64 bits, with messages that name no setting of ours.
"""

Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
WholeSeconds = Annotated[int, Meta(ge=1, le=MAX_SECONDS)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
PositiveCount = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the configuration."""


class ClusterConfig(Section, frozen=True):
    workers: Annotated[int, Meta(ge=1, le=256)] = 4
    app: str = ""
    node_id: str = ""
    host: str = "127.0.0.1"
    port: Port = 8000
    advertise: str = ""
    cluster_key: str = ""
    state_dir: str = ""
    drain: Literal["close", "wait"] = "close"
    drain_seconds: SecondsOrZero = 30.0


class RedisConfig(Section, frozen=True):
    url: str = ""
    sentinel_username: str = ""
    sentinel_password: str = ""
    embedded: bool = True
    max_memory: PositiveCount = 268_435_456
    connect_timeout: Seconds = 1.0
    timeout: Seconds = 2.0
    stand_in: bool = True
    spool_messages: Annotated[int, Meta(ge=0, le=16_000)] = 10_000
    spool_bytes: Count = 16_777_216


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
    compression: bool = False
    protocol: Literal["wsd", "uvicorn"] = "wsd"


class SecurityConfig(Section, frozen=True):
    sensitive_fields: tuple[str, ...] = SENSITIVE_FIELDS
    allowed_origins: tuple[str, ...] = ()
    client_broadcasts: bool = True
    client_directs: bool = True
    api_key: str = ""
    handshake_timeout: Seconds = 10.0
    messages_per_second: SecondsOrZero = 200.0
    message_burst: PositiveCount = 400
    bytes_per_second: Count = 262_144
    byte_burst: PositiveCount = 2_097_152
    max_connections_per_user: Count = 0
    authenticate: str = ""
    jwt_secret: str = ""
    jwt_public_key_file: str = ""
    jwt_jwks_file: str = ""
    jwt_jwks_url: str = ""
    jwt_algorithms: tuple[str, ...] = ("HS256",)
    jwt_audience: str = ""
    jwt_issuer: str = ""
    jwt_user_claim: str = "sub"
    jwt_username_claim: str = "name"
    jwt_require_exp: bool = True
    authorize: str = ""


class CentrifugeConfig(Section, frozen=True):
    enabled: bool = True
    personal_channel: bool = True
    broadcast: bool = True
    rpc: str = ""


class PostgresConfig(Section, frozen=True):
    url: str = ""
    listen_url: str = ""
    table: str = "wsd_outbox"
    archive_table: str = "wsd_archive"


class HooksConfig(Section, frozen=True):
    on_connect: str = ""
    on_disconnect: str = ""
    on_subscribe: str = ""
    on_unsubscribe: str = ""
    on_message: str = ""


class WebhooksConfig(Section, frozen=True):
    url: str = ""
    secret: str = ""
    events: tuple[EventType, ...] = EVENT_TYPES
    timeout: Seconds = 10.0
    max_waiting: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000


class DashboardConfig(Section, frozen=True):
    enabled: bool = True
    token: str = ""


class ChannelConfig(Section, frozen=True):
    """The settings of the channels whose names match a pattern."""

    history_size: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    history_ttl_seconds: Seconds = 300.0
    archive: bool = False
    presence: Literal["off", "snapshot", "events"] = "snapshot"
    max_members: Count = 0
    slow_readers: Literal["close_and_resume", "conflate", "drop_oldest"] = "close_and_resume"
    receipts: bool = False
    allow_subscribe: Allowed = "anyone"
    allow_publish: Allowed = "anyone"
    allow_history: Allowed = "anyone"
    allow_presence: Allowed = "anyone"


class ApiKeyConfig(Section, frozen=True):
    """An API key that may do some kinds of requests in some channels."""

    key: str = ""
    rights: tuple[Right, ...] = ()
    channels: tuple[str, ...] = (ALL_CHANNELS,)


class AlertsConfig(Section, frozen=True):
    command: str = ""
    url: str = ""
    delay_seconds: SecondsOrZero = 10.0
    timeout: Seconds = 10.0


class ScaleConfig(Section, frozen=True):
    min: Annotated[int, Meta(ge=1, le=256)] = 1
    max: Annotated[int, Meta(ge=0, le=256)] = 0
    connections_per_worker: Count = 0
    cpu: Annotated[float, Meta(ge=0, le=1)] = 0.0
    down_after: Seconds = 300.0
    rebalance: bool = False


class LogConfig(Section, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    max_bytes: Annotated[int, Meta(ge=4096, le=MAX_COUNT)] = 10_485_760
    backups: Annotated[int, Meta(ge=0, le=100)] = 5


class Config(Section, frozen=True):
    """The whole configuration."""

    cluster: ClusterConfig = ClusterConfig()
    redis: RedisConfig = RedisConfig()
    nginx: NginxConfig = NginxConfig()
    health: HealthConfig = HealthConfig()
    restart: RestartConfig = RestartConfig()
    websocket: WebSocketConfig = WebSocketConfig()
    security: SecurityConfig = SecurityConfig()
    centrifuge: CentrifugeConfig = CentrifugeConfig()
    postgres: PostgresConfig = PostgresConfig()
    hooks: HooksConfig = HooksConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    dashboard: DashboardConfig = DashboardConfig()
    alerts: AlertsConfig = AlertsConfig()
    scale: ScaleConfig = ScaleConfig()
    log: LogConfig = LogConfig()
    channels: dict[str, ChannelConfig] = msgspec.field(default_factory=lambda: {"*": ChannelConfig()})  # by pattern
    api_keys: dict[str, ApiKeyConfig] = {}  # by name


def with_workers(config: Config, workers: int) -> Config:
    """Return the configuration with another number of workers."""
    return msgspec.structs.replace(config, cluster=msgspec.structs.replace(config.cluster, workers=workers))
