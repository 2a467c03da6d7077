"""The whole language between supervisor and worker: environment, heartbeat record, Redis keys, exit codes.

Standard library only: the supervisor imports this module and nothing else of the worker.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

# Exit codes of `python -m wsd.worker`. The last line the worker printed says what happened.
EXIT_OK = 0
EXIT_STARTUP_FAILED = 3  # as uvicorn's own STARTUP_FAILURE
EXIT_BAD_APP = 4

SENSITIVE_FIELDS = ("password", "token", "secret", "api_key", "authorization", "cookie")
"""Taken out of whatever clients send to each other, unless the configuration says otherwise."""

ACCEPT_GRACE_SECONDS = 0.2
"""How long a stopping worker goes on accepting after its socket has left the path nginx knows."""


def _env(name: str, default: Any = None) -> Any:
    return field(default=default, metadata={"env": name})


@dataclass(frozen=True, kw_only=True)
class WorkerEnv:
    """What a worker is told by its environment; every field has a default, so that plain uvicorn works.

    The first five names are those of the original system and keep their meaning. Times are in seconds.
    """

    worker_id: str = _env("WORKER_ID", "")
    node_id: str = _env("NODE_ID", "")
    redis_url: str = _env("REDIS_URL", "")
    distributed: bool = _env("DISTRIBUTED_WEBSOCKET_ENABLED", True)
    session_ttl: float = _env("WEBSOCKET_SESSION_TTL", 3600.0)
    slot: int = _env("WSD_WORKER_SLOT", 0)
    bind_path: str = _env("WSD_WORKER_BIND_PATH", "")  # unix socket of this incarnation
    public_path: str = _env("WSD_WORKER_PUBLIC_PATH", "")  # where the supervisor puts it once it is ready
    listen: str = _env("WSD_WORKER_LISTEN", "")  # host:port shared through SO_REUSEPORT, without nginx
    app: str = _env("WSD_WORKER_APP", "")
    heartbeat_interval: float = _env("WSD_WORKER_HEARTBEAT_INTERVAL", 1.0)
    heartbeat_ttl: float = _env("WSD_WORKER_HEARTBEAT_TTL", 5.0)
    drain_seconds: float = _env("WSD_WORKER_DRAIN_SECONDS", 30.0)
    ping_interval: float = _env("WSD_WORKER_PING_INTERVAL", 25.0)
    ping_timeout: float = _env("WSD_WORKER_PING_TIMEOUT", 10.0)
    max_message_bytes: int = _env("WSD_WORKER_MAX_MESSAGE_BYTES", 65536)
    sensitive_fields: str = _env("WSD_WORKER_SENSITIVE_FIELDS", ",".join(SENSITIVE_FIELDS))
    redis_connect_timeout: float = _env("WSD_WORKER_REDIS_CONNECT_TIMEOUT", 1.0)
    redis_timeout: float = _env("WSD_WORKER_REDIS_TIMEOUT", 4.0)
    log_level: str = _env("WSD_WORKER_LOG_LEVEL", "info")

    def to_env(self) -> dict[str, str]:
        """The variables to start a worker with; `from_env` of them gives the same record."""
        return {f.metadata["env"]: _to_text(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the record; unset names mean the defaults, WORKER_ID is then `worker-<pid>`.

        Raises ValueError that names the variable and its value.
        """
        values: dict[str, Any] = {}
        for f in fields(cls):
            name = f.metadata["env"]
            if name in environ:
                values[f.name] = _from_text(name, environ[name], type(f.default))
        values["worker_id"] = values.get("worker_id") or f"worker-{os.getpid()}"
        values["node_id"] = values.get("node_id") or socket.gethostname()
        return cls(**values)


def _to_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_text(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.strip().lower() in ("1", "true", "yes", "on"):
            return True
        if text.strip().lower() in ("0", "false", "no", "off"):
            return False
        raise ValueError(f"{name} must be true or false, got {text!r}")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}") from None


INTERNAL_ENV_NAMES = frozenset(
    f.metadata["env"] for f in fields(WorkerEnv) if f.metadata["env"].startswith("WSD_WORKER_")
)
"""Names that only a supervisor sets; people set the keys of wsd.toml."""


class WorkerState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a worker says about itself every second, in Redis and in its /health. Counters start at 0."""

    worker_id: str
    node_id: str
    slot: int
    pid: int
    beat: int  # counts up; a supervisor sees life by its change, whatever the clocks say
    uptime: float  # seconds on the worker's monotonic clock, for rates
    state: WorkerState
    connections: int
    messages_in: int
    messages_out: int
    loop_lag: float  # seconds, the worst since the last beat
    rss: int  # bytes
    redis: bool  # the worker can talk to Redis, and hears the others through it

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises ValueError when the text is not a heartbeat; fields of newer workers are ignored."""
        return cls._from_raw(json.loads(text))

    @classmethod
    def from_health(cls, body: bytes) -> Self:
        """The record in a worker's answer to GET /health. Raises ValueError."""
        answer = json.loads(body)
        return cls._from_raw(answer.get("heartbeat") if isinstance(answer, dict) else None)

    @classmethod
    def _from_raw(cls, raw: Any) -> Self:
        try:
            known = {f.name: raw[f.name] for f in fields(cls)}
        except (TypeError, KeyError) as exc:
            raise ValueError(f"not a heartbeat: {exc!r}") from None
        known["state"] = WorkerState(known["state"])
        return cls(**known)


# Redis keys. The braces are Redis Cluster's hash tag: keys that one script touches share a slot.
LIVE_WORKERS_KEY = "{wsd}:workers"  # sorted set: worker id by the time its heartbeat expires (ms)


def heartbeat_key(worker_id: str) -> str:
    return "{wsd}:worker:" + worker_id


def node_key(node_id: str) -> str:
    """The lease by which a NODE_ID is live once only."""
    return "{wsd}:node:" + node_id


SESSIONS_KEY = "{wsd}:sessions"  # sorted set: all session ids by when they expire (seconds since the epoch)
SESSION_WORKERS_KEY = "{wsd}:session_workers"  # set: worker ids that have, or had, sessions
CLEANUP_KEY = "{wsd}:session_cleanup"  # lease: the worker that cleans up now


def session_key(session_id: str) -> str:
    return "ws_session:" + session_id


def user_sessions_key(user_id: str) -> str:
    """Sorted set, as SESSIONS_KEY, of one user."""
    return "ws_user_sessions:" + user_id


def worker_sessions_key(worker_id: str) -> str:
    """Sorted set, as SESSIONS_KEY, of one worker."""
    return "ws_worker_sessions:" + worker_id


def worker_channel(worker_id: str) -> str:
    """The pub/sub channel that one worker alone hears. No client can name it: theirs begin with ws_channel."""
    return "ws_worker:{" + worker_id + "}"


BROADCAST = "broadcast"
"""The name of the channel that every connection hears; no client may use it for another."""


def channel_key(channel: str) -> str:
    """The pub/sub channel that carries a channel's messages between workers."""
    return "ws_channel:{" + channel + "}"
