"""Define the configuration of a worker process, which it reads from its environment variables."""

import os
import re
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from wsd.worker.contract.variables import to_variables, values_in
from wsd.worker.contract.variables import variable as _env
from wsd.worker.contract.webhook_rules import EVENT_TYPES

SENSITIVE_FIELDS = ("password", "token", "secret", "api_key", "authorization", "cookie")
"""Names of fields that are removed from what clients send to each other, unless the configuration names others."""

ADMIN_ALLOW = ("127.0.0.1", "::1")
"""Addresses and networks that may read statistics and metrics, unless the configuration names others."""

WORKER_ID = "WORKER_ID"
"""The environment variable that holds a worker's name."""


@dataclass(frozen=True, kw_only=True)
class WorkerEnv:
    """The configuration of one worker process, read from its environment. Times are in seconds, sizes in bytes.

    Every field has a default, so that an application also runs under a server without a supervisor. WORKER_ID, NODE_ID,
    REDIS_URL, REDIS_SENTINEL_USERNAME, REDIS_SENTINEL_PASSWORD, DISTRIBUTED_WEBSOCKET_ENABLED and WEBSOCKET_SESSION_TTL
    are public: people may set them by themselves.
    """

    worker_id: str = _env(WORKER_ID, "")
    node_id: str = _env("NODE_ID", "")
    slot: int = _env("WSD_WORKER_SLOT", 0)  # the number in `worker-2`, from 1 on; 0: there is no supervisor
    operator_key: str = _env("WSD_WORKER_OPERATOR_KEY", "")  # authorizes the requests of the supervisor
    events_path: str = _env("WSD_WORKER_EVENTS_PATH", "")  # the node's file of events

    # Where to listen. The worker binds bind_path; once it is ready, the supervisor renames that to public_path.
    bind_path: str = _env("WSD_WORKER_BIND_PATH", "")
    public_path: str = _env("WSD_WORKER_PUBLIC_PATH", "")
    listen: str = _env("WSD_WORKER_LISTEN", "")  # host:port that all workers share (SO_REUSEPORT), without nginx

    # The application
    app: str = _env("WSD_WORKER_APP", "", "cluster.app")
    app_directory: str = _env("WSD_WORKER_APP_DIRECTORY", "")  # the first place to import it from
    protocol: str = _env("WSD_WORKER_PROTOCOL", "wsd", "websocket.protocol")

    # Clients of the Centrifuge protocol
    centrifuge: bool = _env("WSD_WORKER_CENTRIFUGE", True, "centrifuge.enabled")
    centrifuge_personal_channel: bool = _env("WSD_WORKER_CENTRIFUGE_PERSONAL", True, "centrifuge.personal_channel")
    centrifuge_broadcast: bool = _env("WSD_WORKER_CENTRIFUGE_BROADCAST", True, "centrifuge.broadcast")
    centrifuge_rpc: str = _env("WSD_WORKER_CENTRIFUGE_RPC", "", "centrifuge.rpc")

    # Life and death
    heartbeat_interval: float = _env("WSD_WORKER_HEARTBEAT_INTERVAL", 1.0, "health.heartbeat_interval")
    heartbeat_ttl: float = _env("WSD_WORKER_HEARTBEAT_TTL", 5.0, "health.heartbeat_timeout")
    drain: str = _env("WSD_WORKER_DRAIN", "close", "cluster.drain")
    drain_seconds: float = _env("WSD_WORKER_DRAIN_SECONDS", 30.0, "cluster.drain_seconds")

    # Connections
    session_ttl: float = _env("WEBSOCKET_SESSION_TTL", 3600.0, "websocket.session_ttl")
    trace_ttl: float = _env("WSD_WORKER_TRACE_TTL", 3600.0, "websocket.trace_ttl")
    ping_interval: float = _env("WSD_WORKER_PING_INTERVAL", 25.0, "websocket.ping_interval")
    ping_timeout: float = _env("WSD_WORKER_PING_TIMEOUT", 10.0, "websocket.ping_timeout")
    idle_timeout: float = _env("WSD_WORKER_IDLE_TIMEOUT", 0.0, "websocket.idle_timeout")
    max_message_bytes: int = _env("WSD_WORKER_MAX_MESSAGE_BYTES", 65_536, "websocket.max_message_bytes")
    max_buffer_bytes: int = _env("WSD_WORKER_MAX_BUFFER_BYTES", 1_048_576, "websocket.max_buffer_bytes")
    max_total_buffer_bytes: int = _env(
        "WSD_WORKER_MAX_TOTAL_BUFFER_BYTES", 268_435_456, "websocket.max_total_buffer_bytes"
    )
    compression: bool = _env("WSD_WORKER_COMPRESSION", False, "websocket.compression")
    channels: str = _env("WSD_WORKER_CHANNELS", "")  # the [channels] sections as JSON: options by pattern

    # Redis
    redis_url: str = _env("REDIS_URL", "")
    redis_sentinel_username: str = _env("REDIS_SENTINEL_USERNAME", "", "redis.sentinel_username")
    redis_sentinel_password: str = _env("REDIS_SENTINEL_PASSWORD", "", "redis.sentinel_password")
    distributed: bool = _env("DISTRIBUTED_WEBSOCKET_ENABLED", True)  # False: do not use redis_url
    fallback_url: str = _env("WSD_WORKER_FALLBACK_URL", "")  # the node's own Valkey, beside redis_url
    redis_connect_timeout: float = _env("WSD_WORKER_REDIS_CONNECT_TIMEOUT", 1.0, "redis.connect_timeout")
    redis_timeout: float = _env("WSD_WORKER_REDIS_TIMEOUT", 2.0, "redis.timeout")
    spool_messages: int = _env("WSD_WORKER_SPOOL_MESSAGES", 10_000, "redis.spool_messages")
    spool_bytes: int = _env("WSD_WORKER_SPOOL_BYTES", 16_777_216, "redis.spool_bytes")

    # The archive. Without channels that have one, nothing is connected.
    postgres_url: str = _env("WSD_WORKER_POSTGRES_URL", "", "postgres.url")
    archive_table: str = _env("WSD_WORKER_ARCHIVE_TABLE", "wsd_archive", "postgres.archive_table")

    # Limits. A worker counts only its own handshakes, so nginx limits them where there is one.
    handshake_timeout: float = _env("WSD_WORKER_HANDSHAKE_TIMEOUT", 10.0, "security.handshake_timeout")
    max_head_bytes: int = _env("WSD_WORKER_MAX_HEAD_BYTES", 65_536)  # of a request line and all headers of a request
    handshakes_per_second: float = _env("WSD_WORKER_HANDSHAKES_PER_SECOND", 0.0)  # 0: no limit
    handshake_burst: float = _env("WSD_WORKER_HANDSHAKE_BURST", 200.0)
    messages_per_second: float = _env("WSD_WORKER_MESSAGES_PER_SECOND", 200.0, "security.messages_per_second")
    message_burst: float = _env("WSD_WORKER_MESSAGE_BURST", 400.0, "security.message_burst")
    bytes_per_second: float = _env("WSD_WORKER_BYTES_PER_SECOND", 262_144.0, "security.bytes_per_second")
    byte_burst: float = _env("WSD_WORKER_BYTE_BURST", 2_097_152.0, "security.byte_burst")
    max_connections_per_user: int = _env("WSD_WORKER_MAX_CONNECTIONS_PER_USER", 0, "security.max_connections_per_user")

    # Who may do what. Lists are joined by commas.
    sensitive_fields: str = _env("WSD_WORKER_SENSITIVE_FIELDS", ",".join(SENSITIVE_FIELDS), "security.sensitive_fields")
    allowed_origins: str = _env("WSD_WORKER_ALLOWED_ORIGINS", "", "security.allowed_origins")
    admin_allow: str = _env("WSD_WORKER_ADMIN_ALLOW", ",".join(ADMIN_ALLOW), "nginx.admin_allow")
    admin_hosts: str = _env("WSD_WORKER_ADMIN_HOSTS", "", "nginx.admin_hosts")
    client_broadcasts: bool = _env("WSD_WORKER_CLIENT_BROADCASTS", True, "security.client_broadcasts")
    client_directs: bool = _env("WSD_WORKER_CLIENT_DIRECTS", True, "security.client_directs")
    api_key: str = _env("WSD_WORKER_API_KEY", "", "security.api_key")
    api_keys: str = _env("WSD_WORKER_API_KEYS", "")  # the [api_keys] sections as JSON, by name
    authorize: str = _env("WSD_WORKER_AUTHORIZE", "", "security.authorize")
    authenticate: str = _env("WSD_WORKER_AUTHENTICATE", "", "security.authenticate")
    jwt_secret: str = _env("WSD_WORKER_JWT_SECRET", "", "security.jwt_secret")
    jwt_public_key_file: str = _env("WSD_WORKER_JWT_PUBLIC_KEY_FILE", "", "security.jwt_public_key_file")
    # The worker does not read this digest. It makes the environment differ once the file has another key.
    jwt_public_key_digest: str = _env("WSD_WORKER_JWT_PUBLIC_KEY_DIGEST", "")
    jwt_jwks_file: str = _env("WSD_WORKER_JWT_JWKS_FILE", "", "security.jwt_jwks_file")
    jwt_jwks_url: str = _env("WSD_WORKER_JWT_JWKS_URL", "", "security.jwt_jwks_url")
    jwt_algorithms: str = _env("WSD_WORKER_JWT_ALGORITHMS", "HS256", "security.jwt_algorithms")
    jwt_audience: str = _env("WSD_WORKER_JWT_AUDIENCE", "", "security.jwt_audience")
    jwt_issuer: str = _env("WSD_WORKER_JWT_ISSUER", "", "security.jwt_issuer")
    jwt_user_claim: str = _env("WSD_WORKER_JWT_USER_CLAIM", "sub", "security.jwt_user_claim")
    jwt_username_claim: str = _env("WSD_WORKER_JWT_USERNAME_CLAIM", "name", "security.jwt_username_claim")
    jwt_require_exp: bool = _env("WSD_WORKER_JWT_REQUIRE_EXP", True, "security.jwt_require_exp")

    # Functions of the application, as module:function
    hook_on_connect: str = _env("WSD_WORKER_HOOK_ON_CONNECT", "", "hooks.on_connect")
    hook_on_disconnect: str = _env("WSD_WORKER_HOOK_ON_DISCONNECT", "", "hooks.on_disconnect")
    hook_on_subscribe: str = _env("WSD_WORKER_HOOK_ON_SUBSCRIBE", "", "hooks.on_subscribe")
    hook_on_unsubscribe: str = _env("WSD_WORKER_HOOK_ON_UNSUBSCRIBE", "", "hooks.on_unsubscribe")
    hook_on_message: str = _env("WSD_WORKER_HOOK_ON_MESSAGE", "", "hooks.on_message")
    webhook_url: str = _env("WSD_WORKER_WEBHOOK_URL", "", "webhooks.url")
    webhook_secret: str = _env("WSD_WORKER_WEBHOOK_SECRET", "", "webhooks.secret")
    webhook_events: str = _env("WSD_WORKER_WEBHOOK_EVENTS", ",".join(EVENT_TYPES), "webhooks.events")
    webhook_timeout: float = _env("WSD_WORKER_WEBHOOK_TIMEOUT", 10.0, "webhooks.timeout")
    webhook_max_waiting: int = _env("WSD_WORKER_WEBHOOK_MAX_WAITING", 100_000, "webhooks.max_waiting")

    log_level: str = _env("WSD_WORKER_LOG_LEVEL", "info", "log.level")
    log_format: str = _env("WSD_WORKER_LOG_FORMAT", "text", "log.format")

    @property
    def authenticates(self) -> bool:
        """True if the settings say how clients are authenticated."""
        keys = (self.jwt_secret, self.jwt_public_key_file, self.jwt_jwks_file, self.jwt_jwks_url)
        return bool(self.authenticate or any(keys))

    def to_env(self) -> dict[str, str]:
        """Return the variables to start a worker with. `from_env` reads the same record from them."""
        return to_variables(self)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the record. Variables that are not set mean the defaults.

        The default of WORKER_ID is `worker-<pid>-<4 hex>`, since pids repeat over time and between containers. A
        WORKER_ID that several processes inherit (uvicorn --workers) gets the pid of each appended.

        Raises ValueError with the name of the variable and its value.
        """
        values = values_in(environ, cls)
        worker_id = values.get("worker_id")
        if not worker_id:
            worker_id = f"worker-{os.getpid()}-{secrets.token_hex(2)}"
        elif not re.fullmatch(r"[\w.:-]{1,128}", worker_id):
            raise ValueError(f"WORKER_ID may hold letters, digits and . : _ - only, got {worker_id!r}")
        elif _is_one_of_many():
            worker_id = f"{worker_id}-{os.getpid()}"
        values["worker_id"] = worker_id
        values["node_id"] = values.get("node_id") or socket.gethostname()
        return cls(**values)


def _is_one_of_many() -> bool:
    """Tell whether multiprocessing started this process. It then shares its environment with its siblings."""
    process = sys.modules.get("multiprocessing.process")  # such a process has loaded it; elsewhere loading it is slow
    return process is not None and process.parent_process() is not None


INTERNAL_ENV_NAMES = frozenset(
    f.metadata["env"] for f in fields(WorkerEnv) if f.metadata["env"].startswith("WSD_WORKER_")
)
"""Variables that only a supervisor sets. People set the keys of wsd.toml."""
